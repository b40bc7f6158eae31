"""Weights of other forms get the name of what they are, and of what mends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Copy, change_config, refused
from golden import needs_golden
from safetensors.torch import save_file

pytestmark = needs_golden

LORA = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
GPTQ = {"bits": 4, "quant_method": "gptq"}
BITSANDBYTES = {"load_in_4bit": True, "load_in_8bit": False}


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]
)
def test_an_adapter_beside_the_model_is_refused(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / name).write_text("{}", "utf-8")
    text = refused(folder)
    assert f"holds an adapter (LoRA) that is not merged: {name}; merge it: " in text
    assert "merge_and_unload" in text
    assert "move the adapter's files away" in text


def test_an_adapter_alone_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}', "utf-8")
    save_file({f"{LORA}A.weight": torch.zeros(8, 64)}, tmp_path / "adapter_model.safetensors")
    text = refused(tmp_path)
    assert "adapter_config.json, adapter_model.safetensors" in text
    assert "move" not in text


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        (GPTQ, "gptq"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors"),
        (BITSANDBYTES, "bitsandbytes"),
        ({}, "an unknown method"),
        ("int4", "an unknown method"),
    ],
)
@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_quantized_weights_are_named_by_their_config(
    key: str, settings: Any, method: str, copy: Copy
) -> None:
    folder = copy("clip")
    change_config(folder, **{key: settings})
    text = refused(folder)
    assert f"holds weights quantized by {method} ({key} in config.json)" in text
    assert "export the float checkpoint that was quantized" in text


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_quantized_weights_are_named_by_a_nested_config(part: str, copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, **{part: {"quantization_config": GPTQ}})
    assert "quantized by gptq" in refused(folder)


def test_a_config_of_null_quantizes_nothing(copy: Copy) -> None:
    folder = copy("clip")
    file = folder / "config.json"
    config = {**json.loads(file.read_text("utf-8")), "quantization_config": None}
    config["hidden_act"] = "gelu"
    file.write_text(json.dumps(config), "utf-8")
    assert "hidden_act" in refused(folder)


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json"])
def test_quantized_weights_are_named_by_a_file(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / name).write_text("{}", "utf-8")
    assert f"({name})" in refused(folder)


def test_weights_that_mlx_quantized_are_named(copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, quantization={"group_size": 64, "bits": 4})
    assert "holds weights quantized by MLX (quantization in config.json)" in refused(folder)
