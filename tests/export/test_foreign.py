"""Weights of other forms get the name of what they are, and of what mends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Copy, Tensors, change_config, change_tensors, refused
from golden import needs_golden
from safetensors.torch import load_file, save_file

pytestmark = needs_golden

LORA = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
MATMUL = "model.layers.0.self_attn.q_proj.weight"
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


def fp8(tensors: Tensors) -> None:
    tensors[MATMUL] = tensors[MATMUL].to(torch.float8_e4m3fn)
    tensors[f"{MATMUL}_scale"] = torch.ones(1)


def awq(tensors: Tensors) -> None:
    del tensors[MATMUL]
    tensors[MATMUL.replace("weight", "qweight")] = torch.zeros(64, 8, dtype=torch.int32)
    tensors[MATMUL.replace("weight", "qzeros")] = torch.zeros(1, 8, dtype=torch.int32)
    tensors[MATMUL.replace("weight", "scales")] = torch.ones(1, 64)


def bitsandbytes(tensors: Tensors) -> None:
    tensors[MATMUL] = torch.zeros(2048, 1, dtype=torch.uint8)
    tensors[f"{MATMUL}.absmax"] = torch.zeros(64)
    tensors[f"{MATMUL}.quant_map"] = torch.zeros(16)


@pytest.mark.parametrize(
    ("change", "method"), [(fp8, "FP8"), (awq, "GPTQ or AWQ"), (bitsandbytes, "bitsandbytes")]
)
def test_quantized_weights_are_named_by_their_tensors(
    change: Callable[[Tensors], None], method: str, copy: Copy
) -> None:
    folder = copy("clip")
    change_tensors(folder, change)
    assert f"holds weights quantized by {method} (model.layers.0.self" in refused(folder)


def prefixed(tensors: Tensors, prefix: str) -> None:
    renamed = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    tensors.clear()
    tensors.update(renamed)


@pytest.mark.parametrize(
    ("prefix", "tool"),
    [
        ("module.", "DistributedDataParallel"),
        ("_orig_mod.", "torch.compile"),
        ("module._orig_mod.", "DistributedDataParallel, which has it in .module and torch.compile"),
        ("_fsdp_wrapped_module.", "FSDP"),
        ("base_model.model.", "PEFT"),
        ("student.", "all begin with 'student'"),
        ("model.", "all begin with 'model'"),
    ],
)
def test_what_is_around_the_model_is_named(prefix: str, tool: str, copy: Copy) -> None:
    folder = copy("clip")
    change_tensors(folder, lambda tensors: prefixed(tensors, prefix))
    text = refused(folder)
    assert tool in text
    assert "save the state_dict of the model inside" in text
    assert "download" not in text


def test_a_part_that_was_compiled_is_named(copy: Copy) -> None:
    folder = copy("clip")

    def change(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith("model.")]:
            tensors[name.replace("model.", "model._orig_mod.")] = tensors.pop(name)

    change_tensors(folder, change)
    assert "torch.compile" in refused(folder)


def test_a_model_with_an_adapter_inside_is_named(copy: Copy) -> None:
    folder = copy("clip")

    def change(tensors: Tensors) -> None:
        tensors[MATMUL.replace("weight", "base_layer.weight")] = tensors.pop(MATMUL)
        for part in "AB":
            name = MATMUL.replace("weight", f"lora_{part}.default.weight")
            tensors[name] = torch.zeros(8, 64)
        prefixed(tensors, "base_model.model.")

    change_tensors(folder, change)
    text = refused(folder)
    assert "whose adapter is not merged" in text
    assert "merge_and_unload" in text


@pytest.mark.parametrize("key", ["model", "state_dict", "module"])
def test_what_a_trainer_saved_is_named(key: str, copy: Copy) -> None:
    folder = copy("clip")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({"epoch": 3, key: tensors}, folder / "pytorch_model.bin")
    text = refused(folder)
    assert f"what a trainer saved, with epoch, {key}; take its weights out: " in text
    assert f")['{key}']" in text


@pytest.mark.parametrize("name", ["model.pth", "weights.ckpt", "model-Q4_K_M.gguf"])
def test_weights_of_another_name_are_named(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").rename(folder / name)
    text = refused(folder)
    assert f"found {name}; " in text
    assert "download" not in text
