"""The table of docs/quantization.md: bundles of the demo on the same unseen signs, against the
first of them.

    python demo/figures.py build/demo-bundle-fp32 build/demo-bundle-int8 build/demo-bundle-int4

Every question is asked as the model has learned it, and those of texts without a look too. Bytes
are counted without the embedding table and the reports.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from evaluate import OTHERS, Tally, ask, draw_scenes

from vpt_edge import runtime
from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import exit_code
from vpt_edge.live.signs.questions import ASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from vpt_edge.live.signs.questions import Sample

# Not counted: the table, the reports.
TABLES = ("embeddings.bin", "embedding_scales.bin", "report.md", "report.html")
HEADER = (
    "bundle",
    "bytes",
    "of the first",
    "read exactly",
    "characters",
    "without a look",
    "place",
    "colour",
    "there",
    "answers equal",
    "cells equal",
)
READ = ("read", "region")
SEED = 88_000_001


@dataclass
class Column:
    """What one bundle answered: ``texts`` as the model has learned to answer, ``cells`` of every
    look at a region.
    """

    tally: Tally = field(default_factory=Tally)
    texts: list[str] = field(default_factory=list)
    cells: list[tuple[object, ...]] = field(default_factory=list)

    def ask(
        self, pipeline: runtime.Pipeline, picture: Image.Image, samples: Sequence[Sample]
    ) -> None:
        with pipeline.encode(picture) as encoded:
            for kind, sample in zip(ASK, samples, strict=True):
                learned, *_ = ask(encoded, kind, sample, self.tally)
                self.texts.append(learned.text)
                if sample.perception == "region":
                    self.cells.append(tuple(look.cells for look in learned.looks))

    def shares(self, first: Column) -> list[float]:
        """Of right answers, and of those that are the ones of ``first``."""
        shares = [self.tally.right(READ), self.tally.characters(READ)]
        shares.append(self.tally.right(("read", "off")))
        shares.extend(self.tally.right(name) for name in OTHERS)
        return [*shares, equal(self.texts, first.texts), equal(self.cells, first.cells)]


def equal(mine: Sequence[object], others: Sequence[object]) -> float:
    return sum(one == other for one, other in zip(mine, others, strict=True)) / len(others)


def size_of(bundle: str) -> int:
    files = [path for path in Path(bundle).iterdir() if path.name not in TABLES]
    return sum(path.stat().st_size for path in files)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Accuracy, size and agreement of the demo's bundles."
    )
    parser.add_argument("bundles", nargs="+", help="the first is the reference")
    parser.add_argument("--count", type=int, default=2000, help="scenes")
    options = parser.parse_args()
    columns = [Column() for _ in options.bundles]
    with ExitStack() as stack, Bar() as bar:
        pipelines = [stack.enter_context(runtime.Pipeline(path)) for path in options.bundles]
        scenes = islice(draw_scenes(SEED), options.count)
        for number, (picture, samples) in enumerate(scenes):
            for column, pipeline in zip(columns, pipelines, strict=True):
                column.ask(pipeline, picture, samples)
            bar.show("scenes", (number + 1) / options.count)
    print(f"{options.count} scenes, seed {SEED}\n")
    print_table(options.bundles, columns)


def print_table(bundles: Sequence[str], columns: Sequence[Column]) -> None:
    print(f"| {' | '.join(HEADER)} |")
    print(f"|---|{'---:|' * (len(HEADER) - 1)}")
    full = size_of(bundles[0])
    for bundle, column in zip(bundles, columns, strict=True):
        size = size_of(bundle)
        name = Path(bundle).name.removeprefix("demo-bundle-")
        cells = " | ".join(f"{share:.1%}" for share in column.shares(columns[0]))
        print(f"| {name} | {size:,} | {size / full:.2f} | {cells} |")


if __name__ == "__main__":
    sys.exit(exit_code(main))
