"""Weights of other tools get the name of the tool, by the names of their tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from checkpoints import Copy, Tensors, change_tensors, refused
from golden import needs_golden

pytestmark = needs_golden

MATMUL = "model.layers.0.self_attn.q_proj.weight"


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


def mlx(tensors: Tensors) -> None:
    tensors[MATMUL] = torch.zeros(64, 8, dtype=torch.int32)
    tensors[MATMUL.replace("weight", "scales")] = torch.zeros(64, 1)
    tensors[MATMUL.replace("weight", "biases")] = torch.zeros(64, 1)


def hqq(tensors: Tensors) -> None:
    tensors[MATMUL.replace("weight", "W_q")] = tensors.pop(MATMUL).to(torch.uint8)


@pytest.mark.parametrize(
    ("change", "method"),
    [
        (fp8, "FP8"),
        (awq, "GPTQ or AWQ"),
        (bitsandbytes, "bitsandbytes"),
        (mlx, "MLX"),
        (hqq, "HQQ"),
    ],
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
        ("module._orig_mod._fsdp_wrapped_module.", "torch.compile, which has it in ._orig_mod and"),
        ("base_model.model.module.", "DistributedDataParallel, which has it in .module and PEFT"),
        ("_forward_module.module.", "Lightning Fabric"),
        ("net.policy.student.", "all begin with 'net.policy.student'"),
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


@pytest.mark.parametrize("name", ["lm_head.modules_to_save.default.weight", "x.oft_r", "x.ia3_l"])
def test_other_adapters_are_named(name: str, copy: Copy) -> None:
    folder = copy("clip")
    change_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(2)}))
    assert f"holds a PEFT model whose adapter is not merged: {name}" in refused(folder)


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


@pytest.mark.parametrize(
    ("lead", "told"),
    [
        ({"visual": "vision.", "model": "language."}, "begin with 'language' or 'vision'"),
        ({"visual": "tower."}, "begin with 'tower'"),
        ({"visual": "module."}, "the first is called 'module.visual.blocks.0.attn.proj.bias'"),
    ],
)
def test_prefixes_of_parts_are_named(lead: dict[str, str], told: str, copy: Copy) -> None:
    folder = copy("clip")

    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            prefix = lead.get(name.partition(".")[0], "")
            tensors[f"{prefix}{name}"] = tensors.pop(name)

    change_tensors(folder, change)
    text = refused(folder)
    assert told in text
    assert "save the state_dict of the model inside" in text


def test_a_copy_of_the_model_beside_it_is_named(copy: Copy) -> None:
    folder = copy("clip")
    change_tensors(folder, lambda tensors: tensors.update({f"ema.{MATMUL}": torch.zeros(64, 64)}))
    assert "holds tensors whose names begin with 'ema'" in refused(folder)


def test_placeholders_of_deepspeed_are_named(copy: Copy) -> None:
    folder = copy("clip")

    def change(tensors: Tensors) -> None:
        for name in tensors:
            tensors[name] = torch.zeros(0)

    change_tensors(folder, change)
    text = refused(folder)
    assert "holds tensors without numbers, as a model has them under DeepSpeed ZeRO-3: " in text
    assert "python zero_to_fp32.py CHECKPOINT OUTPUT" in text
