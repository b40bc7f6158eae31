"""The bundles without weights that `make gpu` fills on the spot, and what it runs of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import bundles
from benchmarks.graphs import TEXT
from benchmarks.shape import HOLLOW, Runner, fill

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 2}


@pytest.fixture
def hollow(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without weights, of one layer and one block, in a precision and for a target."""
    monkeypatch.setattr(bundles, "LAYERS", 1)
    monkeypatch.setattr(bundles, "BLOCKS", 1)
    for key, value in SMALL.items():
        monkeypatch.setitem(TEXT, key, value)
    work = tmp_path / "work"
    work.mkdir()
    folder = tmp_path / "bundle"
    precision, target = request.param
    bundles.write_hollow(bundles.sparse_checkpoint(work), precision, target, folder)
    return folder


@pytest.mark.parametrize("hollow", [("int8", "tensorrt")], indirect=True)
def test_a_bundle_without_weights_is_filled_on_the_spot(hollow: Path) -> None:
    written = {path.name for path in hollow.iterdir()}
    missing = {entry["file"] for entry in json.loads((hollow / HOLLOW).read_text())}
    assert missing and not missing & written
    bundle = fill(hollow)
    assert missing <= set(bundle.manifest.files)


@pytest.mark.parametrize("hollow", [("fp16", "onnxruntime")], indirect=True)
def test_all_that_is_timed_runs(hollow: Path) -> None:
    runner = Runner(fill(hollow), "cpu")
    try:
        for run in runner.runs.values():
            run()
    finally:
        runner.close()
