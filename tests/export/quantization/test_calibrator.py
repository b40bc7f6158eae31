"""Plans made of calibration samples in the runtime's loop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from golden import DEMO, Exporter

from vpt_edge.calibration.model import BundleModel, RecordableModel
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.progress import Progress
from vpt_edge.export.quantization.calibrator import Calibrator, Draft
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.quantization.selection import select_samples
from vpt_edge.export.writer import BundleWriter

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.export.quantization.plan import QuantizationPlan


def calibrate(
    precision: str, reference: RecordableModel, options: Calibration, ranges: Path
) -> tuple[QuantizationPlan, set[str]]:
    """The plan of the demo, and the stages in which it was made."""
    checkpoint = Checkpoint.open(str(DEMO))
    writer = BundleWriter(checkpoint, RECIPES[precision], "onnxruntime", 1024, ranges.parent)
    selection = select_samples(options, streamed=False)
    calibrator = Calibrator(Draft.of(writer), reference, options, selection, ranges)
    stages = set[str]()
    plan = calibrator.calibrate(Progress(lambda stage, done: stages.add(stage.partition(":")[0])))
    return plan, stages


def test_ranges_smoothed_for_another_precision_are_not_taken(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    """The plain ranges are shared; the smoothed ones were divided by other scales."""
    reference = BundleModel(exported(DEMO))
    options = Calibration(str(data), samples=16, answer_tokens=4)
    shared = tmp_path / "shared.json"
    calibrate("int4", reference, options, shared)
    int8, stages = calibrate("int8", reference, options, shared)
    fresh, _ = calibrate("int8", reference, options, tmp_path / "fresh.json")
    assert int8.thresholds == fresh.thresholds
    assert "observing ranges" not in stages
    assert "observing smoothed ranges" in stages
    again, stages = calibrate("int8", reference, options, shared)
    assert again.thresholds == fresh.thresholds
    assert not [stage for stage in stages if stage.startswith("observing")]


def test_what_becomes_int8_is_smoothed_as_int8(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    """No matmul of the demo has inputs that part into blocks of 256: INT4 is INT8 then."""
    reference = BundleModel(exported(DEMO))
    options = Calibration(str(data), samples=16, answer_tokens=4)
    ranges = tmp_path / "ranges.json"
    int4, _ = calibrate("int4", reference, replace(options, block=256), ranges)
    int8, _ = calibrate("int8", reference, options, ranges)
    assert int4.to_dict() == int8.to_dict()
