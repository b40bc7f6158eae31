"""Quantized, every family answers as its float self."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from families import CONFIGS, write_checkpoint, write_questions
from golden import needs_ort_131
from taught import write_taught

from vpt_edge.export.exporter import export
from vpt_edge.export.quantization.options import Calibration

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", params=CONFIGS)
def taught(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    return write_taught(tmp_path_factory.mktemp(request.param), request.param)


@needs_ort_131
@pytest.mark.parametrize(("precision", "kv_cache"), [("int8", "float"), ("int4", "int8")])
def test_the_gate_holds(
    precision: str, kv_cache: str, taught: tuple[Path, Path], tmp_path: Path
) -> None:
    source, data = taught
    calibration = Calibration(str(data), kv_cache=kv_cache, block=32)
    bundle = export(str(source), tmp_path / "bundle", precision=precision, calibration=calibration)
    gate = bundle.manifest.gate
    assert gate is not None and gate.held
    assert (gate.accuracy, gate.float_accuracy, gate.answers_equal) == (1.0, 1.0, 1.0)
    if precision == "int8":
        assert gate.floats == {}


def test_a_calibrated_export_gives_no_hint_of_sampling(tmp_path: Path) -> None:
    """Hints are errors here; the way recommends a temperature."""
    source = write_checkpoint(tmp_path / "checkpoint", "qwen2_vl")
    data = write_questions(tmp_path / "questions")
    calibration = Calibration(str(data), max_drop=100, block=32, answer_tokens=2)
    bundle = export(
        str(source),
        tmp_path / "bundle",
        precision="int8",
        perception="qwen3-vl-zoom",
        calibration=calibration,
    )
    assert bundle.manifest.kind == "text"
