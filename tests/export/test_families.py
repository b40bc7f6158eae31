"""Plain checkpoints, that never look again: exported and asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from families import CONFIGS, write_checkpoint

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.exporter import export
from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.errors import ExportError, ImageError

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES = list(CONFIGS)
PICTURE = np.random.default_rng(3).integers(0, 256, (90, 150, 3), np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_checkpoint_exports_and_answers(family: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", family)
    notes = list[str]()
    bundle = export(str(source), tmp_path / "bundle", precision="fp32", note=notes.append)
    manifest = bundle.manifest
    assert (manifest.model["name"], manifest.perception) == (family, {"name": "none"})
    assert manifest.kind == "none"
    assert manifest.image.longest_side is None
    assert list(manifest.graphs) == ["vision_encoder", "decoder"]
    (note,) = notes
    assert "--max-pixels" in note
    with Pipeline(bundle) as pipeline:
        answer = pipeline.ask(PICTURE, "What is this?", max_new_tokens=4)
    assert (answer.looks, len(answer.turns)) == ((), 1)
    assert answer.finish_reason in ("stop", "length")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_ends_with_the_text_and_with_what_the_file_says(family: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", family)
    (source / "generation_config.json").write_text('{"eos_token_id": [258, 256, 41]}', "utf-8")
    checkpoint = Checkpoint.open(str(source))
    assert checkpoint.perception.tokens.end == (258, 256, 41)
    assert checkpoint.notes == ()


def test_pixels_are_those_that_are_asked_for(tmp_path: Path) -> None:
    source = str(write_checkpoint(tmp_path / "checkpoint", "qwen2_vl"))
    checkpoint = Checkpoint.open(source)
    checkpoint.limit_pixels(None, None, 512)
    assert (checkpoint.image.min_pixels, checkpoint.image.max_pixels) == (3136, 256 * 28**2)
    checkpoint = Checkpoint.open(source)
    checkpoint.limit_pixels(784, 4000000, 512)
    assert (checkpoint.image.min_pixels, checkpoint.image.max_pixels) == (784, 4000000)
    assert checkpoint.notes == ()
    for least, most in ((0, None), (4000, 3999), (1, 783), (-1, -1)):
        with pytest.raises(ExportError, match="leave no size"):
            checkpoint.limit_pixels(least, most, 4096)


def test_another_perception_is_named(tmp_path: Path) -> None:
    source = str(write_checkpoint(tmp_path / "checkpoint", "qwen2_vl"))
    for name in ("vpt", "Zoom", ""):
        with pytest.raises(ExportError, match="is unknown"):
            Checkpoint.open(source, name)
    assert Checkpoint.open(source, "none").perception.block == {"name": "none"}


def test_a_picture_is_shown_in_its_own_size(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", "qwen2_vl")
    bundle = export(str(source), tmp_path / "bundle", precision="fp32", max_pixels=2000000)
    with Pipeline(bundle) as pipeline:
        with pytest.raises(ImageError, match="aspect ratio is 201, expected 200 at most"):
            pipeline.encode(np.zeros((10, 2010, 3), np.uint8))
        with pipeline.encode(np.zeros((600, 840, 3), np.uint8)) as picture:
            assert picture.features.outline().grid == (1, 42, 60)
