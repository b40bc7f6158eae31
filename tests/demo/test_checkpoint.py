"""The model that is shipped reads signs that it has never seen, and cannot without a look."""

from __future__ import annotations

from evaluate import SEED, draw_scenes, evaluate
from golden import DEMO, Exporter

from vpt_edge.runtime import Pipeline

SCENES = 60
LARGEST = 24 * 2**20  # bytes that it may take in the repository


def test_it_reads_with_a_look_alone(exported: Exporter) -> None:
    with Pipeline(exported(DEMO)) as pipeline:
        tally = evaluate(pipeline, draw_scenes(SEED), SCENES)
    looked = ("read", "region")
    at_once = ("read", "off")
    assert tally.asked(looked) == SCENES
    assert tally.right(looked) > 0.7
    assert tally.characters(looked) > 0.85
    assert tally.right(at_once) < 0.1


def test_it_is_small() -> None:
    sizes = [path.stat().st_size for path in DEMO.iterdir()]
    assert sum(sizes) < LARGEST
