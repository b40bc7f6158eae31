"""The float model streamed from the checkpoint: the same numbers as its float bundle, and a
quantized export of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from golden import GOLDEN, TAGS, Exporter, needs_golden, own_samples

from vpt_edge.calibration.collect import Collector
from vpt_edge.calibration.model import BundleModel, RecordableModel, open_pipeline
from vpt_edge.calibration.recorder import ActivationRecorder
from vpt_edge.calibration.samples import read_samples
from vpt_edge.export import exporter
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.exporter import export
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.quantization.selection import STREAMED_TOKENS
from vpt_edge.export.streamed import NUMBERS, StreamedLinear, StreamedModel, stream_checkpoint
from vpt_edge.export.writer import BundleWriter
from vpt_edge.runtime import Bundle

if TYPE_CHECKING:
    from vpt_edge.calibration.sample import Sample

MODELS = [TAGS, *(GOLDEN / "models" / name for name in ("det", "seg") if GOLDEN.is_dir())]


def streamed(checkpoint: Path, folder: Path) -> StreamedModel:
    return stream_checkpoint(
        BundleWriter(Checkpoint.open(str(checkpoint)), RECIPES["int8"], "onnxruntime", 1024, folder)
    )


def record(model: RecordableModel, samples: tuple[Sample, ...], file: Path) -> ActivationRecorder:
    recorder = ActivationRecorder()
    Collector(model, samples, file).run("ranges", recorder)
    return recorder


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_it_answers_and_is_observed_as_its_float_bundle(
    model: Path, data: Path, tmp_path: Path, exported: Exporter
) -> None:
    samples = read_samples(data if model == TAGS else own_samples(model, tmp_path)).samples[:3]
    ours_model = streamed(model, tmp_path)
    theirs_model = BundleModel(exported(model))
    with open_pipeline(ours_model) as ours, open_pipeline(theirs_model) as theirs:
        for sample in samples:
            one, other = (
                p.ask(
                    sample.open(),
                    sample.question,
                    perception=sample.perception,
                    max_new_tokens=24,
                    keep_logits=True,
                )
                for p in (ours, theirs)
            )
            assert one.raw == other.raw
            for turn, same in zip(one.turns, other.turns, strict=True):
                assert turn.logits is not None and same.logits is not None
                np.testing.assert_allclose(turn.logits, same.logits, atol=1e-3)
    one_seen = record(ours_model, samples, tmp_path / "ours")
    other_seen = record(theirs_model, samples, tmp_path / "theirs")
    assert one_seen.largest.keys() == other_seen.largest.keys() != set()
    for part, largest in one_seen.largest.items():
        np.testing.assert_allclose(
            largest, other_seen.largest[part], rtol=0, atol=1e-4 * largest.max()
        )
    ours_seen, theirs_seen = one_seen.statistics, other_seen.statistics
    assert ours_seen.keys() == theirs_seen.keys()
    for key, statistics in ours_seen.items():
        assert statistics.count == theirs_seen[key].count
        top = float(theirs_seen[key].maxima.max())
        np.testing.assert_allclose(
            statistics.maxima, theirs_seen[key].maxima, rtol=0, atol=1e-4 * top
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_product_is_computed_in_parts_of_its_weight(dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, NUMBERS // 2, generator=generator).to(dtype)  # two rows a part
    bias, x = (
        torch.randn(5, generator=generator),
        torch.randn(2, rows, NUMBERS // 2, generator=generator),
    )
    seen: list[torch.Tensor] = []
    linear = StreamedLinear(lambda: weight, bias, seen.append)
    want = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(linear(x).double(), want, rtol=1e-4, atol=1e-2)
    assert seen[0] is x


def test_a_large_model_is_streamed_and_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "STREAMED_ABOVE", 1000)
    stages: list[str] = []
    bundle = export(
        str(TAGS),
        tmp_path / "bundle",
        precision="int8",
        calibration=Calibration(str(data), max_drop=100, samples=20),
        progress=lambda stage, done: stages.append(stage),
    )
    assert not [stage for stage in stages if "float reference" in stage]
    gate = bundle.manifest.gate
    assert gate is not None and not gate.speed
    assert "Speed against float" not in bundle.file("report.md").read_text()
    note = "streamed from the checkpoint for each token: 20 of "
    assert [
        line for line in gate.notes if note in line and f"after {STREAMED_TOKENS} tokens" in line
    ]
    assert gate.samples == 5 and gate.answers_equal >= 0.8
    assert Bundle.open(bundle.path).manifest.parity == ()


@needs_golden
def test_a_checkpoint_in_bfloat16_keeps_its_embeddings_in_its_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = GOLDEN / "models" / "clip"
    for path in source.iterdir():
        if path.name != "model.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file(
        {
            name: tensor.bfloat16()
            for name, tensor in load_file(source / "model.safetensors").items()
        },
        tmp_path / "model.safetensors",
    )
    bundle = streamed(tmp_path, tmp_path)
    rows = bundle.embeddings().rows([3, 1])
    checkpoint = Checkpoint.open(str(tmp_path))
    want = checkpoint.read(checkpoint.embeddings_tensor)[[3, 1]].float()
    np.testing.assert_array_equal(rows, want.numpy())
