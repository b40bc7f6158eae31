"""What the names of tensors tell of the tool that left them, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.export.foreign import quantization_error
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import brief, labels

if TYPE_CHECKING:
    from vpt_edge.export.spec import Shape

# How names of tensors end beside or in the place of a quantized weight.
QUANTIZED = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".g_idx": "GPTQ",
    ".weight_scale": "FP8",
    ".weight_scale_inv": "FP8",
    ".input_scale": "FP8",
    ".weight_packed": "compressed-tensors",
    ".weight_zero_point": "compressed-tensors",
    ".SCB": "bitsandbytes",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".weight_scales": "EETQ",
    ".W_q": "HQQ",
    "._data": "quanto",
    ".codebooks": "AQLM",
    "._amax": "ModelOpt",
    "._packed_params": "torch.ao.quantization",
    ".biases": "MLX",  # one for a group, beside its scales
}
WRAPPERS = {  # what a name has in it because of a tool around the model
    "module": "DistributedDataParallel, which has it in .module",
    "_orig_mod": "torch.compile, which has it in ._orig_mod",
    "_fsdp_wrapped_module": "FSDP, which has it in .module",
    "_checkpoint_wrapped_module": "activation checkpointing, which has it in .module",
    "_forward_module": "Lightning Fabric, which has it in .module",
    "base_model": "PEFT, whose merge_and_unload() gives it back",
}
ADAPTED = re.compile(
    r"\.(lora_|base_layer\.|modules_to_save\.|(ia3|hada|lokr|b?oft|vera)_)"
)  # in names of PEFT
INSIDE = "save the state_dict of the model inside"
DEEPEST = 8  # segments that a prefix may have


def check_names(
    shapes: Mapping[str, Shape], is_expected: Callable[[str], bool], folder: Path
) -> None:
    """Raise CheckpointError where the tensors of ``shapes`` in ``folder`` are those of a model as
    another tool left them. ``is_expected`` says whether a name is one of the model's own.
    """
    lora = list(filter(ADAPTED.search, shapes))
    if lora:
        raise CheckpointError(
            f"{folder} holds a PEFT model whose adapter is not merged: {labels(lora)}",
            "save what merge_and_unload() returns",
        )
    for ending, method in QUANTIZED.items():
        beside = [name for name in shapes if name.endswith(ending)]
        if beside:
            raise quantization_error(folder, method, labels(beside))
    _check_wrapper(shapes, folder)
    _check_prefix(shapes, is_expected, folder)
    _check_placeholders(shapes, folder)


def _check_wrapper(names: Collection[str], folder: Path) -> None:
    first = ""
    around = set[str]()
    for name in sorted(names):
        segments = WRAPPERS.keys() & name.split(".")
        around |= segments
        if segments and not first:
            first = name
    if not around:
        return
    tools = " and ".join(tool for segment, tool in WRAPPERS.items() if segment in around)
    raise CheckpointError(
        f"{folder} holds the weights of a model inside {tools}: the first is called {brief(first)}",
        INSIDE,
    )


def _check_prefix(names: Collection[str], is_expected: Callable[[str], bool], folder: Path) -> None:
    prefixes = set[str]()
    for name in names:
        prefix = _prefix(name, is_expected)
        if prefix is None:
            return
        prefixes.add(prefix)
    prefixes.discard("")
    if not prefixes:
        return
    is_every = all(name.startswith(min(prefixes)) for name in names)
    every = "all " if is_every else ""
    listed = " or ".join(map(brief, sorted(prefixes)))
    raise CheckpointError(f"{folder} holds tensors whose names {every}begin with {listed}", INSIDE)


def _prefix(name: str, is_expected: Callable[[str], bool]) -> str | None:
    """What stands before the model's own name of a tensor; None where there is no such name."""
    segments = name.split(".")
    for depth in range(min(DEEPEST, len(segments))):
        if is_expected(".".join(segments[depth:])):
            return ".".join(segments[:depth])
    return None


def _check_placeholders(shapes: Mapping[str, Shape], folder: Path) -> None:
    """DeepSpeed keeps the numbers elsewhere while a model is trained."""
    empty = [name for name, shape in shapes.items() if 0 in shape]
    if empty:
        raise CheckpointError(
            f"{folder} holds tensors without numbers, as a model has them under DeepSpeed ZeRO-3: "
            f"{labels(empty)}",
            "put its shards together: python zero_to_fp32.py CHECKPOINT OUTPUT (DeepSpeed writes "
            "the script beside them)",
        )
