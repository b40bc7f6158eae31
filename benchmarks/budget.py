"""What first views of fewer pixels cost in answers, and what they save; looks stay as they are.

python benchmarks/budget.py build/tags-bundle-fp32 --count 2000
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from vpt_edge import runtime
from vpt_edge.live.scenes import ASK, FORMS, draw, layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from vpt_edge.live.scenes import Sample

SIDES = (224, 168, 140, 112)  # of first views in pixels; the first is what the others are held to


@dataclass
class Tally:
    """What became of all questions at one size."""

    right: dict[str, int] = field(default_factory=dict)
    equal: int = 0
    regions: int = 0
    same_cells: int = 0
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def add(self, kind: str, sample: Sample, answer: runtime.Answer, usual: runtime.Answer) -> None:
        """Count ``answer`` to a question of ``kind``; ``usual``: the one at the first size."""
        self.right[kind] = self.right.get(kind, 0) + int(answer.text == sample.answer)
        self.equal += int(answer.text == usual.text)
        if sample.perception == "region":
            self.regions += 1
            self.same_cells += int(cells_of(answer) == cells_of(usual))

    def summary(self, count: int) -> dict[str, Any]:
        """Shares of 1, visual tokens of the first view, median seconds a question, by the clock and
        of all processors.
        """
        return {
            "tokens": statistics.mean(self.tokens),
            "accuracy": {kind: right / count for kind, right in self.right.items()},
            "answers_equal": self.equal / len(self.seconds),
            "cells_equal": self.same_cells / self.regions,
            "seconds": statistics.median(self.seconds),
            "cpu_seconds": statistics.median(self.cpu_seconds),
        }


def cells_of(answer: runtime.Answer) -> list[Any]:
    return [look.cells for look in answer.looks]


def ask(
    pipeline: runtime.Pipeline, picture: Image.Image, sample: Sample, tally: Tally, side: int
) -> runtime.Answer:
    """The answer with a first view of up to ``side`` pixels a side; ``tally`` is told its cost."""
    start = time.perf_counter()
    cpu_start = time.process_time()
    answer = pipeline.ask(
        picture,
        sample.question,
        perception=sample.perception,
        max_new_tokens=16,
        first_max_pixels=side**2,
    )
    tally.cpu_seconds.append(time.process_time() - cpu_start)
    tally.seconds.append(time.perf_counter() - start)
    pad = pipeline.bundle.manifest.tokens.image_pad
    tally.tokens.append(answer.turns[0].prompt_ids.count(pad))
    return answer


def measure(
    pipeline: runtime.Pipeline, sides: Sequence[int], count: int, seed: int
) -> dict[int, Tally]:
    """Ask about ``count`` scenes, each kind of question once, at each of ``sides`` in turn."""
    rng = Random(seed)
    tallies = {side: Tally() for side in sides}
    for index in range(count):
        plan = layout(rng)
        picture = draw(plan)
        for kind, put in ASK.items():
            sample = put(plan, rng, rng.randrange(FORMS))
            usual = None
            for side, tally in tallies.items():
                answer = ask(pipeline, picture, sample, tally, side)
                usual = usual or answer
                tally.add(kind, sample, answer, usual)
        if sys.stderr.isatty():
            print(f"\r{index + 1} of {count} scenes", end="", file=sys.stderr)
    return tallies


def print_table(summaries: dict[int, dict[str, Any]]) -> None:
    """A row a size, in Markdown."""
    kinds = " | ".join(ASK)
    print(
        f"| first view | visual tokens | {kinds} | answers equal | cells equal | seconds | of CPU |"
    )
    print("|---|" + "---:|" * (len(ASK) + 5))
    for side, row in summaries.items():
        right = " | ".join(f"{row['accuracy'][kind]:.1%}" for kind in ASK)
        print(
            f"| {side}x{side} | {row['tokens']:.0f} | {right} | {row['answers_equal']:.1%} "
            f"| {row['cells_equal']:.1%} | {row['seconds']:.3f} | {row['cpu_seconds']:.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Accuracy and cost of first views of fewer pixels, on unseen scenes."
    )
    parser.add_argument("bundle")
    parser.add_argument("--count", type=int, default=2000, help="scenes, of four questions each")
    parser.add_argument("--seed", type=int, default=77_000_001)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with runtime.Pipeline(options.bundle) as pipeline:
        tallies = measure(pipeline, options.sides, options.count, options.seed)
    summaries = {side: tally.summary(options.count) for side, tally in tallies.items()}
    if options.json:
        print(json.dumps({"scenes": options.count, "seed": options.seed, "sides": summaries}))
        return
    print(f"\n{options.count} scenes, seed {options.seed}; seconds: median of a question")
    print_table(summaries)


if __name__ == "__main__":
    main()
