"""Ask the demo's bundle about pictures that it never saw: question, look, answer, truth, and an
overlay of each.

python demo/run.py build/demo-bundle-fp32 --out build/demo
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

from vpt_edge import runtime
from vpt_edge.live.scenes import scene

SEED = 2026  # of the pictures; training counts its scenes up from other seeds


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Ask about unseen scenes and draw where the model looked."
    )
    parser.add_argument("bundle")
    parser.add_argument("--out", type=Path, required=True, help="folder for the overlays")
    parser.add_argument("--count", type=int, default=3, help="pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rng = Random(SEED)
    right = 0
    asked = 0
    with runtime.Pipeline(options.bundle) as pipeline:
        for index in range(options.count):
            picture, samples = scene(rng)
            for sample in samples:
                answer = pipeline.ask(picture, sample.question, perception=sample.perception)
                asked += 1
                if answer.text == sample.answer:
                    right += 1
                looks = "; ".join(look.describe() for look in answer.looks)
                print(f"question  {sample.question}")
                print(f"look      {looks or 'one was enough'}")
                print(f"answer    {answer.text}   (truth: {sample.answer})")
                if sample.perception == "region":
                    path = options.out / f"overlay_{index}.png"
                    answer.plot().save(path)
                    print(f"overlay   {path}")
                print()
    print(f"{right} of {asked} answers are right")


if __name__ == "__main__":
    main()
