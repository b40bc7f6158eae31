"""Plans made of calibration samples in the runtime's loop."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
from golden import TAGS, Exporter

from vpt_edge.calibration.model import BundleModel, RecordableModel
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.progress import Progress
from vpt_edge.export.quantization import calibrator
from vpt_edge.export.quantization.calibrator import Calibrator, Draft, Places
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.quantization.selection import select_samples
from vpt_edge.export.writer import BundleWriter

if TYPE_CHECKING:
    from vpt_edge.calibration.recorder import ActivationRecorder
    from vpt_edge.export.quantization.plan import QuantizationPlan
    from vpt_edge.runtime.sessions import Session


def calibrate(
    precision: str, reference: RecordableModel, options: Calibration, ranges: Path
) -> tuple[QuantizationPlan, set[str]]:
    """The plan of TAGS, and the stages in which it was made."""
    checkpoint = Checkpoint.open(str(TAGS))
    writer = BundleWriter(checkpoint, RECIPES[precision], "onnxruntime", 1024, ranges.parent)
    selection = select_samples(options, streamed=False)
    with TemporaryDirectory() as work:
        places = Places(ranges, Path(work))
        maker = Calibrator(Draft.of(writer), reference, options, selection, places)
        stages = set[str]()
        progress = Progress(lambda stage, done: stages.add(stage.partition(":")[0]))
        plan = maker.calibrate(progress)
    return plan, stages


def test_ranges_smoothed_for_another_precision_are_not_taken(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    """The plain ranges are shared; the smoothed ones were divided by other scales."""
    reference = BundleModel(exported(TAGS))
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
    """No matmul of TAGS has inputs that part into blocks of 256: INT4 is INT8 then."""
    reference = BundleModel(exported(TAGS))
    options = Calibration(str(data), samples=16, answer_tokens=4)
    ranges = tmp_path / "ranges.json"
    int4, _ = calibrate("int4", reference, replace(options, block=256), ranges)
    int8, _ = calibrate("int8", reference, options, ranges)
    assert int4.to_dict() == int8.to_dict()


class Counted:
    """A model that counts the sessions of each graph."""

    def __init__(self, model: RecordableModel) -> None:
        self._model = model
        self.opened: Counter[str] = Counter()
        self.manifest = model.manifest
        self.tokenizer_file = model.tokenizer_file
        self.embeddings = model.embeddings

    def open_session(self, name: str, recorder: ActivationRecorder | None = None) -> Session:
        self.opened[name] += 1
        return self._model.open_session(name, recorder)


def test_a_decoder_of_int4_is_asked_once(data: Path, exported: Exporter, tmp_path: Path) -> None:
    """And the plan is that of a second pass through the whole loop."""
    reference = Counted(BundleModel(exported(TAGS)))
    options = Calibration(str(data), samples=16, answer_tokens=4)
    ranges = tmp_path / "ranges.json"
    plan, stages = calibrate("int4", reference, options, ranges)
    assert stages >= {"observing ranges", "observing smoothed encoder ranges"}
    assert reference.opened["decoder"] == 1
    assert reference.opened["vision_encoder"] == 2
    content = json.loads(ranges.read_text("utf-8"))
    del content["passes"]["smoothed encoder ranges"]
    ranges.write_text(json.dumps(content), "utf-8")
    again, stages = calibrate("int4", reference, options, ranges)
    assert "observing ranges" not in stages
    assert reference.opened["decoder"] == 3  # one of them to find the first pass done
    assert again.to_dict() == plan.to_dict()
    for key, importance in plan.importance.items():
        np.testing.assert_array_equal(importance, again.importance[key])
    third, stages = calibrate("int4", reference, options, ranges)
    assert not [stage for stage in stages if stage.startswith("observing")]
    assert third.to_dict() == plan.to_dict()


def test_what_is_observed_again_in_the_loop_is_what_is_derived(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    """Of an INT4 decoder: thresholds to the bit, importance but for the last bits."""
    reference = BundleModel(exported(TAGS))
    options = Calibration(str(data), samples=16, answer_tokens=4)
    plan, _ = calibrate("int4", reference, options, tmp_path / "ranges.json")
    with mock.patch(f"{calibrator.__name__}._needs_histograms", return_value=True):
        looped, _ = calibrate("int4", reference, options, tmp_path / "looped.json")
    assert looped.thresholds == plan.thresholds
    assert looped.importance.keys() == plan.importance.keys()
    for key, importance in plan.importance.items():
        np.testing.assert_allclose(importance, looped.importance[key], rtol=1e-6)
