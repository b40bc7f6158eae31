"""The model that is shipped reads signs that it has never seen, and cannot without a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from golden import ROOT
from signs.evaluate import SEED, draw_scenes, evaluate

from vpt_edge.export.exporter import export
from vpt_edge.runtime import Pipeline

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINT = ROOT / "demo" / "signs" / "checkpoint"
SCENES = 60
LARGEST = 24 * 2**20  # bytes that it may take in the repository


def test_it_reads_with_a_look_alone(tmp_path: Path) -> None:
    export(str(CHECKPOINT), tmp_path / "bundle", precision="fp32")
    with Pipeline(tmp_path / "bundle") as pipeline:
        tally = evaluate(pipeline, draw_scenes(SEED), SCENES)
    looked = ("read", "region")
    at_once = ("read", "off")
    assert tally.asked(looked) == SCENES
    assert tally.right(looked) > 0.5
    assert tally.characters(looked) > 0.7
    assert tally.right(at_once) < 0.1


def test_it_is_small() -> None:
    sizes = [path.stat().st_size for path in CHECKPOINT.iterdir()]
    assert sum(sizes) < LARGEST
