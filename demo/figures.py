"""The table of README: every precision of the demo on the same unseen scenes, against fp32.

    python demo/figures.py build/demo-bundle-fp32 build/demo-bundle-fp16 build/demo-bundle-int8
    build/demo-bundle-int4

Each scene is asked one question, the kinds in turn; region questions are asked once more without a
look. Bytes are counted without the embedding table and the reports.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from vpt_edge import runtime
from vpt_edge.calibration.evaluation import compare, evaluate
from vpt_edge.calibration.metrics import METRICS
from vpt_edge.calibration.sample import Sample
from vpt_edge.live.scenes import scene

if TYPE_CHECKING:
    from vpt_edge.calibration.outcome import Outcome

KINDS = ("region", "reencode", "free")
# Not counted: the table, the reports.
TABLES = ("embeddings.bin", "embedding_scales.bin", "report.md", "report.html")
HEADER = (
    "precision",
    "bytes",
    "of fp32",
    "all",
    "region",
    "same, no look",
    "re-encode",
    "direct",
    "answers",
    "cells",
)
SEED = 88_000_001


def draw(count: int, folder: Path) -> list[Sample]:
    """One question about each of ``count`` new pictures."""
    rng = Random(SEED)
    samples = []
    for index in range(count):
        picture, asked = scene(rng)
        path = folder / f"{index:05}.png"
        picture.save(path, compress_level=1)
        one = asked[index % len(asked)]
        samples.append(Sample(path, one.question, one.answer, one.perception))
    return samples


def ask(bundle: str, samples: Sequence[Sample]) -> list[Outcome]:
    def tell(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{bundle}: {done} of {len(samples)}", end="", file=sys.stderr)

    with runtime.Pipeline(bundle) as pipeline:
        return evaluate(pipeline, samples, METRICS["exact"], tell, max_new_tokens=16)


def accuracy(outcomes: Sequence[Outcome], samples: Sequence[Sample], kind: str) -> float:
    scores = [
        o.score
        for o, sample in zip(outcomes, samples, strict=True)
        if sample.perception == kind and o.score is not None
    ]
    return sum(scores) / len(scores)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Accuracy, size and agreement of the demo's bundles."
    )
    parser.add_argument("bundles", nargs="+", help="the first is the reference")
    parser.add_argument("--count", type=int, default=2000, help="scenes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = draw(options.count, Path(folder))
        blind = [
            replace(sample, perception="off") for sample in samples if sample.perception == "region"
        ]
        reference: list[Outcome] = []
        full = 0
        print(f"| {' | '.join(HEADER)} |")
        print(f"|---|{'---:|' * (len(HEADER) - 1)}")
        for bundle in options.bundles:
            outcomes = ask(bundle, samples)
            unseen = ask(bundle, blind)
            reference = reference or outcomes
            size = sum(
                path.stat().st_size for path in Path(bundle).iterdir() if path.name not in TABLES
            )
            full = full or size
            agreement = compare(outcomes, reference)
            shares = [accuracy(outcomes, samples, kind) for kind in KINDS]
            shares.insert(1, accuracy(unseen, blind, "off"))
            shares.insert(0, agreement.accuracy or 0.0)
            shares += [agreement.answers_equal, agreement.cells_equal]
            precision = runtime.Bundle.open(bundle).manifest.precision
            cells = " | ".join(f"{share:.1%}" for share in shares)
            print(f"| {precision} | {size:,} | {size / full:.2f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
