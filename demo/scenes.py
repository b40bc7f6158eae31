"""Write pictures of scenes, and data.jsonl with one question of each kind.

python demo/scenes.py --seed 7 --count 20 --out scenes
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

from vpt_edge.live.scenes import scene


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write pictures and data.jsonl with one question of each kind."
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20, help="pictures to write")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rng = Random(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "data.jsonl").open("w", encoding="utf-8") as lines:
        for index in range(options.count):
            picture, samples = scene(rng)
            name = f"{index:05}.png"
            picture.save(options.out / name)
            for sample in samples:
                line = {
                    "image": name,
                    "question": sample.question,
                    "answer": sample.answer,
                    "perception": sample.perception,
                }
                lines.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
