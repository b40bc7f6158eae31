"""Plain models in fewer bits: what a model has learned to say, it says in every precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from families import write_checkpoint
from golden import needs_ort_131
from overfit import ANSWERS, QUESTION, SIZES, draw, overfit, write_samples

from vpt_edge.export.exporter import export
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.runtime import Pipeline

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime import Bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("qwen3_vl")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return overfit(write_checkpoint(folder / "checkpoint", "qwen3_vl"))


@pytest.fixture(scope="module")
def samples(folder: Path) -> Path:
    return write_samples(folder / "samples")


def answers(bundle: Bundle) -> list[str]:
    with Pipeline(bundle) as pipeline:
        return [pipeline.ask(draw(name, SIZES[0]), QUESTION).text for name in ANSWERS]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_floats_say_what_was_learned(precision: str, checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(str(checkpoint), tmp_path / "bundle", precision=precision)
    assert answers(bundle) == list(ANSWERS)


@needs_ort_131
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integers_say_the_same_under_the_gate(
    precision: str, checkpoint: Path, samples: Path, tmp_path: Path
) -> None:
    calibration = Calibration(str(samples), max_drop=0.0, block=32)
    bundle = export(
        str(checkpoint), tmp_path / "bundle", precision=precision, calibration=calibration
    )
    gate = bundle.manifest.gate
    assert gate is not None
    assert (gate.held, gate.accuracy, gate.answers_equal, gate.floats) == (True, 1.0, 1.0, {})
    assert bundle.manifest.cache.dtype == "int8"  # usual for this family
    assert "4,096 tokens of int8, " in (bundle.path / "report.md").read_text("utf-8")
    assert answers(bundle) == list(ANSWERS)
