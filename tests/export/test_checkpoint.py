"""A checkpoint opens, or is refused with what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from checkpoints import KINDS, MODELS, NAMES, Copy, change_tensors, refused
from golden import needs_golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutate
from safetensors.torch import load_file

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models.dinov2 import Dinov2Config
from vpt_edge.export.models.sam import SamConfig
from vpt_edge.runtime.errors import CheckpointError

pytestmark = needs_golden


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_checkpoints_open(name: str) -> None:
    checkpoint = Checkpoint.open(str(MODELS / name))
    tensors = load_file(MODELS / name / "model.safetensors")
    expected = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert {**checkpoint.model.tensors(), **expected} == checkpoint.model.tensors()
    assert set(checkpoint.model.tensors()) - set(expected) <= {"lm_head.weight"}
    assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in tensors.items())
    assert (checkpoint.kind, checkpoint.tied) == (KINDS[name], name != "clip_untied")
    assert not checkpoint.perception.block["prompt_triggered"]
    encoders = {"clip": type(None), "detection": Dinov2Config, "seg": SamConfig}
    reencoder = checkpoint.model.reencoder
    assert reencoder is not None
    assert type(reencoder.encoder) is encoders[checkpoint.kind]


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("clip", "visual.merger.ln_q.weight"),
        ("det", "detection_projector.linear_feature.bias"),
        ("seg", "seg_model.neck.conv2.weight"),
    ],
)
def test_a_missing_tensor_is_named(name: str, tensor: str, copy: Copy) -> None:
    folder = copy(name)
    change_tensors(folder, lambda tensors: tensors.pop(tensor))
    assert f"missing {tensor};" in refused(folder)


def test_a_surplus_tensor_is_named(copy: Copy) -> None:
    folder = copy("clip")
    change_tensors(folder, lambda tensors: tensors.update({"model.layers.2.extra": torch.zeros(2)}))
    assert "surplus model.layers.2.extra;" in refused(folder)


def test_a_tensor_of_another_shape_is_named(copy: Copy) -> None:
    folder = copy("clip")
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(65)}))
    assert "model.norm.weight has shape [65], expected [64]" in refused(folder)


def test_of_many_wrong_tensors_some_are_named(copy: Copy) -> None:
    folder = copy("clip")
    change_tensors(folder, lambda tensors: [tensors.pop(name) for name in sorted(tensors)[-30:]])
    text = refused(folder)
    assert text.count("missing ") == 20
    assert "and 10 more" in text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_broken_tokenizer_is_refused(text: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "tokenizer.json").write_text(text, "utf-8")
    assert "tokenizer.json is not a tokenizer" in refused(folder)


def test_a_cut_off_tokenizer_is_refused(copy: Copy) -> None:
    file = copy("clip") / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:5000])
    assert "tokenizer.json is not a tokenizer" in refused(file.parent)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / name).unlink()
    assert name in refused(folder)


class Hub:
    """Stands in for the Hub's client."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: list[str] | Exception) -> None:
        self.files, self.asked = files, list[tuple[str, list[str]]]()
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda _, name: self.list())
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)

    def list(self) -> Any:
        if isinstance(self.files, Exception):
            raise self.files
        return self.files

    def download(self, name: str, allow_patterns: Any) -> str:
        self.asked.append((name, allow_patterns))
        return str(MODELS / "clip")


@pytest.mark.parametrize(
    "error", [ConnectionError("no route\nto the Hub"), TimeoutError(), RuntimeError("404")]
)
def test_a_hub_that_cannot_be_reached_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hub(monkeypatch, error)
    text = refused("rp-yu/Qwen2-VL-2b-VPT-CLIP")
    assert "rp-yu/Qwen2-VL-2b-VPT-CLIP is not a folder here, and the Hub does not give it" in text


@pytest.mark.parametrize(
    ("files", "pattern"),
    [
        (["config.json", "model-00001-of-00002.safetensors", "pytorch_model.bin"], "*.safetensors"),
        (
            ["config.json", "pytorch_model.bin", "training_args.bin", "optimizer.pt"],
            "pytorch_model*.bin",
        ),
    ],
)
def test_of_a_hub_checkpoint_one_form_of_weights_is_fetched(
    files: list[str], pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(monkeypatch, files)
    checkpoint = Checkpoint.open("rp-yu/Qwen2-VL-2b-VPT-CLIP")
    ((name, patterns),) = hub.asked
    assert name == "rp-yu/Qwen2-VL-2b-VPT-CLIP"
    assert {pattern, "*.json", "*.jinja"} <= set(patterns)
    assert checkpoint.source == "rp-yu/Qwen2-VL-2b-VPT-CLIP"
    assert checkpoint.perception.block["prompt_triggered"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["README.md", "vpt-Q4_K_M.gguf"], "holds a model for llama.cpp (GGUF): found vpt-Q4"),
        (["config.json", "global_step9/mp_rank_00_model_states.pt"], "holds shards of DeepSpeed"),
    ],
)
def test_of_a_hub_checkpoint_of_another_form_nothing_is_fetched(
    files: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(monkeypatch, files)
    assert f"owner/name {told}" in refused("owner/name")
    assert not hub.asked


@pytest.mark.parametrize(
    "name", ["missing", "a/b/c", "/nowhere/at/all", "owner/name with space", "./missing"]
)
def test_what_is_neither_a_folder_nor_an_id_is_refused_unasked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(monkeypatch, RuntimeError("asked"))
    monkeypatch.chdir(MODELS.parent / "tables")
    text = refused(name)
    assert "expected a folder with config.json, or a Hub id owner/name" in text
    assert not hub.asked


FILES = [  # of every checkpoint
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "tokenizer.json",
]


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_a_file_says_the_checkpoint_opens_or_is_refused(
    data: st.DataObject, tmp_path: Path
) -> None:
    name = data.draw(st.sampled_from(FILES))
    folder = tmp_path / "checkpoint"
    if not folder.exists():
        shutil.copytree(MODELS / "clip", folder, copy_function=shutil.copyfile)
        folder.chmod(0o755)
    original = (MODELS / "clip" / name).read_text("utf-8")
    content = json.loads(original)
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(content, data)
    (folder / name).write_text(json.dumps(content), "utf-8")
    try:
        Checkpoint.open(str(folder))
    except CheckpointError as error:
        problem = str(error)
        if len(problem) > 2000 or "\n" in problem:
            pytest.fail(problem[:200])
    finally:
        (folder / name).write_text(original, "utf-8")


def test_a_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "no checkpoint at" in refused(tmp_path / "file")


@pytest.mark.parametrize("name", [5000 * "x", f"owner/{300 * 'x'}", "a\0b"])
def test_a_name_that_no_folder_has_is_not_a_checkpoint(name: str) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.open(name)
