"""The graphs without weights that `make gpu` fills on the spot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import bundles
from benchmarks.shape import HOLLOW

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_bundle_of_the_released_shape_is_written_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "LAYERS", 1)
    monkeypatch.setattr(bundles, "BLOCKS", 1)
    work = tmp_path / "work"
    work.mkdir()
    checkpoint = bundles.sparse_checkpoint(work)
    folder = tmp_path / "shape-int8-tensorrt"
    bundles.write_hollow(checkpoint, "int8", "tensorrt", folder)
    written = {path.name for path in folder.iterdir()}
    assert {"decoder.onnx", "vision_encoder.onnx", "manifest.json", HOLLOW} <= written
    missing = {entry["file"] for entry in json.loads((folder / HOLLOW).read_text())}
    assert missing and not missing & written
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
