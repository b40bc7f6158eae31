"""How often a bundle of the demo is right on scenes that nobody has seen.

python demo/evaluate.py build/demo-bundle-fp32 --count 1000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from vpt_edge import runtime
from vpt_edge.live.scenes import scene

if TYPE_CHECKING:
    from vpt_edge.runtime.perception.actions import Mode


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Accuracy on unseen scenes, for each kind of question."
    )
    parser.add_argument("bundle")
    parser.add_argument("--count", type=int, default=1000, help="scenes, with five questions each")
    parser.add_argument("--seed", type=int, default=77_000_001)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = Random(options.seed)
    asked = Counter[str]()
    right = Counter[str]()
    with runtime.Pipeline(options.bundle) as pipeline:
        for index in range(options.count):
            picture, samples = scene(rng)
            for sample in samples:
                modes: dict[str, Mode] = {sample.perception: sample.perception}
                if sample.perception == "region":
                    modes["region, without a look"] = "off"
                for name, perception in modes.items():
                    answer = pipeline.ask(
                        picture, sample.question, perception=perception, max_new_tokens=16
                    )
                    asked[name] += 1
                    right[name] += int(answer.text == sample.answer)
            if sys.stderr.isatty():
                print(f"\r{index + 1} of {options.count} scenes", end="", file=sys.stderr)
    shares = {name: right[name] / asked[name] for name in asked}
    if options.json:
        print(json.dumps({"scenes": options.count, "asked": asked, "accuracy": shares}))
        return
    print(f"\n{options.count} scenes, seed {options.seed}")
    for name, share in shares.items():
        print(f"  {name:<24}{share:8.1%}  of {asked[name]}")


if __name__ == "__main__":
    main()
