"""Reading checkpoints: the released names and shapes, and checkpoints that are broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from golden import GOLDEN, SHARED, needs_golden
from safetensors.torch import load_file, save_file

from vpt_edge.export.checkpoint import RELEASED, Checkpoint
from vpt_edge.export.config_files import (
    Dinov2Config,
    SamConfig,
    encoder_config,
    text_config,
    vision_config,
)
from vpt_edge.export.tensor_files import expected_tensors
from vpt_edge.runtime.errors import CheckpointError

MODELS = GOLDEN / "models"
NAMES = ["clip", "clip_untied", "det", "seg"]
KINDS = {"clip": "clip", "clip_untied": "clip", "det": "detection", "seg": "seg"}
KEYS = SHARED / "checkpoint_keys"

Tensors = dict[str, torch.Tensor]

pytestmark = needs_golden

SMALL = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
}
LARGE = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
RELEASES: dict[str, tuple[str, dict[str, Any]]] = {
    "2b_clip": ("clip", {**SMALL, "vocab_size": 151936, "vision_config": {"hidden_size": 1536}}),
    "2b_det": (
        "detection",
        {**SMALL, "vocab_size": 151936, "vision_config": {"hidden_size": 1536}},
    ),
    "2b_seg": ("seg", {**SMALL, "vocab_size": 151936, "vision_config": {"hidden_size": 1536}}),
    "7b_clip": (
        "clip",
        {**LARGE, "vocab_size": 152064, "vision_config": {}},
    ),  # values of default are left out
}
COMMON = {
    "hidden_act": "silu",
    "num_hidden_layers": 28,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": [16, 24, 24]},
    "tie_word_embeddings": True,
}


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """Copies a golden checkpoint, to be broken."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in (MODELS / name).iterdir():
            shutil.copyfile(file, folder / file.name)
        return folder

    return make


Copy = Callable[[str], Path]


def refused(path: Path | str) -> str:
    """The text with which a checkpoint is refused, in one line."""
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def change_config(folder: Path, **changes: Any) -> None:
    """``None`` takes a key away."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text("utf-8")), **changes}
    file.write_text(
        json.dumps({key: value for key, value in config.items() if value is not None}), "utf-8"
    )


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    (folder / "model.safetensors").unlink()  # it is mapped
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )


@pytest.mark.parametrize("release", RELEASES)
def test_the_released_checkpoints_have_the_expected_tensors(release: str, tmp_path: Path) -> None:
    kind, changes = RELEASES[release]
    config = {**COMMON, **changes}
    text, vision = text_config(config, tmp_path), vision_config(config, tmp_path)
    got = expected_tensors(kind, vision, text, encoder_config(kind, tmp_path))
    expected = json.loads((KEYS / f"state_dict_{release}.json").read_text("utf-8"))
    assert {name: list(shape) for name, shape in got.items()} == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_checkpoints_open(name: str) -> None:
    checkpoint = Checkpoint.open(str(MODELS / name))
    tensors = load_file(MODELS / name / "model.safetensors")
    expected = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert {**checkpoint.expected_tensors(), **expected} == checkpoint.expected_tensors()
    assert set(checkpoint.expected_tensors()) - set(expected) <= {"lm_head.weight"}
    assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in tensors.items())
    assert (checkpoint.kind, checkpoint.tied) == (KINDS[name], name != "clip_untied")
    assert not checkpoint.prompt_triggered
    encoders = {"clip": type(None), "detection": Dinov2Config, "seg": SamConfig}
    assert type(checkpoint.encoder) is encoders[checkpoint.kind]


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_found_by_token(name: str) -> None:
    tokens, kind = Checkpoint.open(str(MODELS / name)).tokens, KINDS[name]
    ids = json.loads((MODELS / name / "added_tokens.json").read_text("utf-8"))
    pad = ids[f"<|{kind}_image_pad|>"]
    assert tokens.reencode_pad == pad
    assert (tokens.action_start, tokens.action) == (
        ids[f"<|{kind}_action_start|>"],
        ids[f"<|{kind}_action|>"],
    )
    assert (tokens.image_pad, tokens.turn_end) == (ids["<|image_pad|>"], ids["<|im_end|>"])
    special = [ids[token] for token in ids if ids["<|im_start|>"] <= ids[token] <= pad]
    assert sorted(tokens.end) == sorted(special)
    assert ids["<|endoftext|>"] not in tokens.end
    assert sorted(tokens.triggers) == list(range(pad + 1, pad + 22))


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


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_cut_off_safetensors_are_refused(share: float, copy: Copy) -> None:
    file = copy("clip") / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert "model.safetensors is damaged or cut off" in refused(file.parent)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_broken_tokenizer_is_refused(text: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "tokenizer.json").write_text(text, "utf-8")
    assert "tokenizer.json is no tokenizer" in refused(folder)


def test_a_cut_off_tokenizer_is_refused(copy: Copy) -> None:
    file = copy("clip") / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:5000])
    assert "tokenizer.json is no tokenizer" in refused(file.parent)


@pytest.mark.parametrize(
    "token", ["<|clip_image_pad|>", "<|clip_action|>", "<|x_3|>", "<|vision_start|>"]
)
def test_a_tokenizer_that_lacks_a_token_is_refused(token: str, copy: Copy) -> None:
    file = copy("clip") / "tokenizer.json"
    file.write_text(file.read_text("utf-8").replace(token, "<|other|>"), "utf-8")
    assert f"lacks the tokens {token}" in refused(file.parent)


def test_the_tokenizer_of_another_kind_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    shutil.copyfile(MODELS / "det" / "tokenizer.json", folder / "tokenizer.json")
    assert "<|clip_image_pad|>" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / name).unlink()
    assert name in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_broken_config_is_refused(text: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "config.json").write_text(text, "utf-8")
    assert "config.json" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"model_type": "qwen2_vl"}, "model_type is 'qwen2_vl', expected 'qwen2_vl_vpt'"),
        ({"model_type": None}, "model_type is None"),
        ({"vision_encoder_ls": []}, "vision_encoder_ls is []"),
        ({"vision_encoder_ls": None}, "vision_encoder_ls is None"),
        ({"vision_encoder_ls": ["clip", "dino"]}, "expected one of clip, dino, sam"),
        ({"vision_encoder_ls": ["siglip"]}, "expected one of clip, dino, sam"),
        ({"vision_encoder_ls": "clip"}, "expected one of clip, dino, sam"),
        ({"vision_encoder_ls": ["dino"]}, "<|detection_image_pad|>"),
        ({"projector_scale": 2}, "projector_scale is 2, expected 1"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'silu'"),
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"rope_scaling": None}, "lacks mrope_section"),
        ({"rope_scaling": {"mrope_section": [2, 3]}}, "mrope_section is [2, 3]"),
        ({"rope_scaling": {"mrope_section": [2, 3, 4]}}, "expected three numbers of sum 8"),
        ({"rope_scaling": "default"}, "rope_scaling is 'default', expected an object"),
        ({"rope_scaling": [16, 24, 24]}, "rope_scaling is [16, 24, 24], expected an object"),
        ({"vision_config": None}, "lacks vision_config"),
        ({"num_hidden_layers": 3}, "missing model.layers.2."),
        ({"num_hidden_layers": 1}, "surplus model.layers.1."),
        ({"vocab_size": 900}, "vocab_size of 900"),
        ({"vocab_size": 2048}, "has shape [1024, 64], expected [2048, 64]"),
    ],
)
def test_another_model_is_refused(changes: dict[str, Any], found: str, copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, **changes)
    assert found in refused(folder)


def rope_scaling(**changes: Any) -> dict[str, Any]:
    """A configuration of clip's size whose rope_scaling has ``changes``."""
    scaling = {"type": "default", "rope_type": "default", "mrope_section": [16, 24, 24]}
    return {**COMMON, **RELEASES["2b_clip"][1], "rope_scaling": {**scaling, **changes}}


@pytest.mark.parametrize(
    "name", ["yarn", "linear", "dynamic", "longrope", "llama3", "su", "", None, ["default"]]
)
@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_scaled_rotary_positions_are_refused(key: str, name: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        text_config(rope_scaling(**{key: name}, factor=4.0), tmp_path)
    expected = f"{key} of rope_scaling is {name!r}, expected 'default' or 'mrope'"
    assert str(error.value).endswith(expected)


@pytest.mark.parametrize(
    "types", [{}, {"type": "mrope"}, {"type": "default", "rope_type": "default"}]
)
def test_unscaled_rotary_positions_are_taken(types: dict[str, str], tmp_path: Path) -> None:
    section = {"mrope_section": [16, 24, 24]}
    config = {**rope_scaling(), "rope_scaling": {**section, **types}}
    assert text_config(config, tmp_path).mrope_section == (16, 24, 24)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"patch_size": 16}, "patch_size is 16, expected 14"),
        ({"spatial_patch_size": 16}, "patch_size is 16, expected 14"),
        ({"spatial_merge_size": 4}, "merge_size is 4, expected 2"),
        ({"temporal_patch_size": 1}, "temporal_patch_size is 1, expected 2"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'quick_gelu'"),
        ({"in_chans": 4}, "in_channels is 4, expected 3"),
        ({"hidden_size": 128}, "hidden_size is 128, expected 64"),
    ],
)
def test_another_vision_tower_is_refused(changes: dict[str, Any], found: str, copy: Copy) -> None:
    folder = copy("clip")
    vision = json.loads((folder / "config.json").read_text("utf-8"))["vision_config"]
    change_config(folder, vision_config={**vision, **changes})
    assert found in refused(folder)


def test_other_preprocessing_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    file = folder / "preprocessor_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text("utf-8")), "image_mean": [0.5, 0.5, 0.5]}), "utf-8"
    )
    assert "image_mean is [0.5, 0.5, 0.5]" in refused(folder)


def test_limits_come_from_the_preprocessor_where_there_is_one(copy: Copy) -> None:
    folder = copy("seg")
    image = Checkpoint.open(str(folder)).image
    assert (image.limit, image.reencode_limit, image.min_pixels, image.max_pixels) == (
        512,
        1024,
        3136,
        12845056,
    )
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({"min_pixels": 5000, "max_pixels": 100000}), "utf-8")
    image = Checkpoint.open(str(folder)).image
    assert (image.min_pixels, image.max_pixels) == (5000, 100000)
    file.unlink()
    assert Checkpoint.open(str(folder)).image.min_pixels == 3136


def same(folder: Path, name: str) -> None:
    """``folder`` holds the tensors of the golden checkpoint ``name``."""
    checkpoint, tensors = (
        Checkpoint.open(str(folder)),
        load_file(MODELS / name / "model.safetensors"),
    )
    assert all(torch.equal(checkpoint.read(tensor), value) for tensor, value in tensors.items())


def shards(
    folder: Path, name: str, stem: str, suffix: str, save: Callable[[Tensors, Path], object]
) -> None:
    """Write the tensors in two files and their index."""
    tensors = load_file(MODELS / name / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half, weight_map = len(tensors) // 2, dict[str, str]()
    for index, part in enumerate((list(tensors)[:half], list(tensors)[half:])):
        file = f"{stem}-{index + 1:05d}-of-00002.{suffix}"
        save({tensor: tensors[tensor] for tensor in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    listing = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(listing), "utf-8")


SHARDED = [("model", "safetensors", save_file), ("pytorch_model", "bin", torch.save)]


@pytest.mark.parametrize(("stem", "suffix", "save"), SHARDED)
@pytest.mark.parametrize("name", ["clip_untied", "seg"])
def test_shards_read_alike(name: str, stem: str, suffix: str, save: Any, copy: Copy) -> None:
    folder = copy(name)
    shards(folder, name, stem, suffix, save)
    same(folder, name)


@pytest.mark.parametrize(("stem", "suffix", "save"), SHARDED)
def test_a_missing_shard_is_named(stem: str, suffix: str, save: Any, copy: Copy) -> None:
    folder = copy("clip")
    shards(folder, "clip", stem, suffix, save)
    (folder / f"{stem}-00002-of-00002.{suffix}").unlink()
    assert f"{stem}-00002-of-00002.{suffix}" in refused(folder)


def test_an_index_without_files_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}", "utf-8")
    assert "model.safetensors.index.json" in refused(folder)


def as_bin(folder: Path) -> Path:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_files_read_alike(name: str, copy: Copy) -> None:
    folder = copy(name)
    as_bin(folder)
    same(folder, name)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_cut_off_pytorch_files_are_refused(share: float, copy: Copy) -> None:
    file = as_bin(copy("clip"))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert "pytorch_model.bin is damaged or cut off" in refused(file.parent)


class Stranger:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


def test_pytorch_files_run_no_code(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy("clip")
    monkeypatch.chdir(folder)
    torch.save({"model.norm.weight": Stranger()}, as_bin(folder))
    assert "pytorch_model.bin" in refused(folder)
    assert not (folder / "touched").exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"model.norm.weight": 3}])
def test_pytorch_files_hold_tensors_by_name(content: Any, copy: Copy) -> None:
    folder = copy("clip")
    torch.save(content, as_bin(folder))
    assert "no dictionary of tensors" in refused(folder)


def test_safetensors_go_before_pytorch_files(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "pytorch_model.bin").write_bytes(b"damaged")
    same(folder, "clip")


def test_a_separate_head_of_a_tied_checkpoint_is_the_table_too() -> None:
    checkpoint = Checkpoint.open(str(MODELS / "clip"))
    assert (
        checkpoint.embeddings_tensor
        == checkpoint.decoder_tensor("lm_head.weight")
        == "lm_head.weight"
    )


def test_a_tied_checkpoint_without_a_head_takes_the_table() -> None:
    checkpoint = Checkpoint.open(str(MODELS / "det"))
    names = checkpoint.embeddings_tensor, checkpoint.decoder_tensor("lm_head.weight")
    assert names == ("model.embed_tokens.weight",) * 2


def test_an_untied_checkpoint_has_both() -> None:
    checkpoint = Checkpoint.open(str(MODELS / "clip_untied"))
    names = checkpoint.embeddings_tensor, checkpoint.decoder_tensor("lm_head.weight")
    assert names == ("model.embed_tokens.weight", "lm_head.weight")
    assert checkpoint.decoder_tensor("norm.weight") == "model.norm.weight"


def test_an_untied_checkpoint_without_a_head_is_refused(copy: Copy) -> None:
    folder = copy("clip_untied")
    change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))
    assert "missing lm_head.weight" in refused(folder)


def test_an_alignment_checkpoint_has_no_triggers(copy: Copy) -> None:
    folder = copy("det")
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    last = next(
        token["id"]
        for token in data["added_tokens"]
        if token["content"] == "<|detection_image_pad|>"
    )
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] <= last]
    file.write_text(json.dumps(data), "utf-8")
    tokens = Checkpoint.open(str(folder)).tokens
    assert (tokens.action_start, tokens.action, tokens.triggers) == (None, None, ())
    assert tokens.reencode_pad == last


@pytest.mark.parametrize("release", RELEASED)
@pytest.mark.parametrize("form", ["{}", "models--rp-yu--{}/snapshots/0123abc"])
def test_a_released_checkpoint_is_known_by_its_folder(
    form: str, release: str, tmp_path: Path
) -> None:
    folder = tmp_path / form.format(release)
    folder.mkdir(parents=True)
    for file in (MODELS / "det").iterdir():
        shutil.copyfile(file, folder / file.name)
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.prompt_triggered == (not release.endswith(("NoPrompt", "Alignment")))


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
    assert "rp-yu/Qwen2-VL-2b-VPT-CLIP is no folder here, and the Hub does not give it" in text


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
    assert [(name, pattern in patterns, "*.json" in patterns) for name, patterns in hub.asked] == [
        ("rp-yu/Qwen2-VL-2b-VPT-CLIP", True, True)
    ]
    assert checkpoint.source == "rp-yu/Qwen2-VL-2b-VPT-CLIP"
    assert checkpoint.prompt_triggered


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


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "no checkpoint at" in refused(tmp_path / "file")
