"""The gate: outliers that smoothing saves, and what goes back to float."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from golden import TAGS, Exporter, needs_ort_131
from safetensors.torch import load_file, save_file

from vpt_edge.calibration.model import BundleModel
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.exporter import export
from vpt_edge.export.progress import Progress
from vpt_edge.export.quantization.calibrator import Calibrator, Draft, Places
from vpt_edge.export.quantization.gate import QualityGate
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.quantization.selection import select_samples
from vpt_edge.export.quantization.sensitivity import Sensitivity
from vpt_edge.export.writer import BundleWriter
from vpt_edge.runtime import Bundle
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from vpt_edge.export.quantization.plan import QuantizationPlan
    from vpt_edge.runtime.manifest import Gate

FACTOR = 200
HOSTILE = (
    "layers.0.self_attn.q_proj.weight",
    "layers.1.mlp.up_proj.weight",
    "layers.2.mlp.down_proj.weight",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TAGS with one channel 200 times as large in three places, and its consumers that much
    smaller.
    """
    folder = Path(shutil.copytree(TAGS, tmp_path_factory.mktemp("hostile") / "checkpoint"))
    tensors = load_file(folder / "model.safetensors")

    def scale(name: str, part: tuple[slice | int, ...], factor: float) -> None:
        tensors[f"model.layers.{name}"][part] *= factor

    scale("0.input_layernorm.weight", (5,), FACTOR)
    for name in ("q_proj", "k_proj", "v_proj"):
        scale(f"0.self_attn.{name}.weight", (slice(None), 5), 1 / FACTOR)
    scale("1.post_attention_layernorm.weight", (9,), FACTOR)
    for name in ("gate_proj", "up_proj"):
        scale(f"1.mlp.{name}.weight", (slice(None), 9), 1 / FACTOR)
    scale("2.mlp.up_proj.weight", (7,), FACTOR)
    scale("2.mlp.down_proj.weight", (slice(None), 7), 1 / FACTOR)
    save_file(tensors, folder / "model.safetensors")
    return folder


@dataclass
class Trial:
    """An int8 candidate of ``checkpoint`` at the gate of ``reference``."""

    checkpoint: Path
    reference: Bundle
    options: Calibration
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        checkpoint = Checkpoint.open(str(self.checkpoint))
        writer = BundleWriter(checkpoint, RECIPES["int8"], "onnxruntime", 1024, self.folder)
        selection = select_samples(self.options, streamed=False)
        reference = BundleModel(self.reference)
        draft = Draft.of(writer)
        ranges = self.folder.with_suffix(".json")
        places = Places(ranges, self.folder)
        calibrator = Calibrator(draft, reference, self.options, selection, places)
        self.progress = Progress(lambda stage, done: None)
        self.plan = calibrator.calibrate(self.progress)
        self.writer = replace(writer, plan=self.plan)
        sensitivity = Sensitivity(self.plan, draft.read)
        self.gate = QualityGate(reference, self.options, selection, sensitivity, streamed=False)

    def judge(self) -> Gate:
        self.writer.run(self.progress.tell)
        candidate = BundleModel(Bundle.open(self.folder))
        return self.gate.compare_with_float(candidate, self.plan, self.progress).gate


@pytest.mark.parametrize("smoothing", [False, True], ids=["minmax", "smoothed"])
def test_smoothing_passes_a_hostile_model_that_minmax_fails(
    smoothing: bool, hostile: Path, data: Path, tmp_path: Path
) -> None:
    reference = export(str(hostile), tmp_path / "float", precision="fp32", cache_tokens=1024)
    options = Calibration(str(data), range_method="minmax", smoothing=smoothing, max_drop=5.0)
    trial = Trial(hostile, reference, options, tmp_path / "candidate")
    gate = trial.judge()
    assert gate.held == smoothing
    if not smoothing:
        fallen_back = trial.gate.fall_back(trial.plan, gate)
        blamed = {weight for _, weight in fallen_back.floats}
        assert blamed & set(HOSTILE), f"blamed {blamed}"


@needs_ort_131
def test_the_gate_gives_up_with_names(data: Path, exported: Exporter, tmp_path: Path) -> None:
    options = Calibration(str(data), kv_cache="int8")
    trial = Trial(TAGS, exported(TAGS), options, tmp_path / "candidate")
    gate = replace(trial.judge(), drop=50.0)
    plans = [trial.plan]
    with pytest.raises(ExportError, match=r"int8 does not hold: 50.00 points are lost.*To blame"):
        fall_back_for_ever(trial.gate, gate, plans)
    assert trial.plan.cache_scales
    assert (plans[1].cache_scales, plans[1].floats) == ({}, {})
    assert "keys and values stay in float: with int8 ones the gate lost 50.00" in trial.gate.notes
    last = plans[-1]
    assert 0.4 < len(last.floats) / len(last.thresholds) <= 0.5
    assert all("rounding changes its output" in reason for reason in last.floats.values())


def fall_back_for_ever(
    quality_gate: QualityGate, gate: Gate, plans: list[QuantizationPlan]
) -> None:
    while True:
        plans.append(quality_gate.fall_back(plans[-1], gate))
