"""Checkpoints that later versions of transformers saved again: they are the checkpoints that they
were.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import MODELS, Copy, Tensors, change_tensors, refused, set_value
from golden import Exporter, needs_golden
from safetensors.torch import load_file

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models.qwen2_vl.layout import original_name

pytestmark = needs_golden

TEXT = (  # what config.json says of the language model
    *("attention_dropout", "bos_token_id", "eos_token_id", "hidden_act", "hidden_size"),
    *("initializer_range", "intermediate_size", "max_position_embeddings", "max_window_layers"),
    *("num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps"),
    *("rope_scaling", "rope_theta", "sliding_window", "use_cache", "use_sliding_window"),
    "vocab_size",
)


def newer_name(name: str) -> str:
    """What transformers 4.52 calls a tensor."""
    if name.startswith("model."):
        return f"model.language_model.{name.removeprefix('model.')}"
    return f"model.{name}" if name.startswith("visual.") else name


def deepest_name(name: str) -> str:
    """As if every part of VPT stood inside the inner model, too."""
    return newer_name(name) if name.startswith(("model.", "lm_head.")) else f"model.{name}"


def rename(folder: Path, newer: Callable[[str], str]) -> None:
    def change(tensors: Tensors) -> None:
        renamed = {newer(name): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(renamed)

    change_tensors(folder, change)


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8"))
    change(config)
    file.write_text(json.dumps(config), "utf-8")


def nest(config: dict[str, Any]) -> None:
    """The text's keys in an object of their own, as 4.52 has it."""
    text = {key: config.pop(key) for key in TEXT}
    config["text_config"] = {**text, "model_type": "qwen2_vl_text"}


def repeat(config: dict[str, Any]) -> None:
    """The text's keys in both places, as 4.53 has it."""
    text = {key: config[key] for key in (*TEXT, "tie_word_embeddings", "torch_dtype")}
    config["text_config"] = {**text, "model_type": "qwen2_vl_text"}


def name_rope(config: dict[str, Any]) -> None:
    """Rotary positions as 5.0 has them, wherever the text stands."""
    text = config.get("text_config", config)
    scaling = text.pop("rope_scaling")
    section = scaling["mrope_section"]
    theta = text.pop("rope_theta")
    rope = {"rope_type": "default", "rope_theta": theta, "mrope_section": section}
    text["rope_parameters"] = rope
    text["layer_types"] = ["full_attention"] * text["num_hidden_layers"]
    text["sliding_window"] = None
    config["dtype"] = config.pop("torch_dtype")


def nest_and_name_rope(config: dict[str, Any]) -> None:
    nest(config)
    name_rope(config)


CONFIGS = [nest, repeat, name_rope, nest_and_name_rope]


@pytest.mark.parametrize("change", CONFIGS)
@pytest.mark.parametrize("name", ["clip", "clip_untied", "det", "seg"])
def test_a_config_in_every_layout_describes_the_same(
    name: str, change: Callable[[dict[str, Any]], None], copy: Copy
) -> None:
    folder = copy(name)
    change_config(folder, change)
    checkpoint = Checkpoint.open(str(folder))
    original = Checkpoint.open(str(MODELS / name))
    assert checkpoint.model == original.model
    assert checkpoint.perception.tokens == original.perception.tokens


@pytest.mark.parametrize("newer", [newer_name, deepest_name])
@pytest.mark.parametrize("name", ["clip", "clip_untied", "det", "seg"])
def test_tensors_of_newer_names_are_the_same(
    name: str, newer: Callable[[str], str], copy: Copy
) -> None:
    folder = copy(name)
    rename(folder, newer)
    checkpoint = Checkpoint.open(str(folder))
    tensors = load_file(MODELS / name / "model.safetensors")
    assert all(torch.equal(checkpoint.read(key), tensor) for key, tensor in tensors.items())
    original = Checkpoint.open(str(MODELS / name))
    assert checkpoint.embeddings_tensor == original.embeddings_tensor


def test_a_checkpoint_saved_again_exports_byte_by_byte_the_same(
    copy: Copy, exported: Exporter
) -> None:
    folder = copy("clip")
    folder = folder.rename(folder.with_name("saved again"))
    rename(folder, newer_name)
    change_config(folder, nest_and_name_rope)
    files = exported(folder).manifest.files
    original = exported(MODELS / "clip").manifest.files
    assert {name: files[name] for name in files if name != "report.md"} == {
        name: original[name] for name in original if name != "report.md"
    }


def test_original_names_stay() -> None:
    for name in load_file(MODELS / "seg" / "model.safetensors"):
        assert original_name(name) == name
        assert original_name(newer_name(name)) == name


def test_a_tensor_of_two_names_is_named(copy: Copy) -> None:
    folder = copy("clip")
    name = "model.language_model.norm.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(64)}))
    assert "holds model.norm.weight twice, as " in refused(folder)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("text_config.hidden_size", 128, "hidden_size is 64 and 128, expected one value"),
        ("text_config.tie_word_embeddings", False, "tie_word_embeddings is True and False"),
        ("text_config.rope_theta", 10, "rope_theta is 1000000.0 and 10, expected one value"),
        ("text_config.rope_scaling.mrope_section", [3, 3, 2], "mrope_section is [2, 3, 3] and [3"),
        ("text_config.rope_scaling.rope_type", "yarn", "rope_type of rope_scaling is 'yarn'"),
        ("text_config.use_sliding_window", True, "use_sliding_window is False and True"),
        ("text_config.num_hidden_layers", [[[[2]]]], "num_hidden_layers is 2 and [[[[2]]]]"),
        ("text_config", [], "text_config is [], expected an object"),
        ("text_config", "qwen2_vl_text", "text_config is 'qwen2_vl_text', expected an object"),
    ],
)
def test_two_layouts_that_contradict_are_refused(
    key: str, value: Any, found: str, copy: Copy
) -> None:
    folder = copy("clip")
    change_config(folder, repeat)
    set_value(folder, "config.json", key, value)
    assert found in refused(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_parameters.rope_type", "yarn"),
        ("rope_parameters.rope_theta", None),
        ("rope_parameters.mrope_section", [2, 3]),
        ("rope_parameters", {"full_attention": {"rope_theta": 1e6, "rope_type": "default"}}),
        ("rope_parameters", []),
        ("layer_types", ["sliding_attention"] * 2),
    ],
)
def test_newer_rotary_positions_are_checked_alike(key: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, name_rope)
    set_value(folder, "config.json", key, value)
    assert "config.json" in refused(folder)
