"""What a folder of weights may be besides a checkpoint that can be exported, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vpt_edge.export.config_files import CONFIG, levels
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import brief, labels

ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
QUANTIZATIONS = ("quantization_config", "compression_config")  # keys of config.json
QUANTIZERS = {  # files that lie beside weights of older tools
    "quantize_config.json": "GPTQ",
    "quant_config.json": "AWQ",
    "hf_quant_config.json": "ModelOpt",
}
# How names of tensors end beside or in the place of a quantized weight.
QUANTIZED = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".g_idx": "GPTQ",
    ".weight_scale": "FP8",
    ".weight_scale_inv": "FP8",
    ".input_scale": "FP8",
    ".weight_packed": "compressed-tensors",
    ".SCB": "bitsandbytes",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
}
WRAPPERS = {  # what a name has in it because of a tool around the model
    "module": "DistributedDataParallel, which has it in .module",
    "_orig_mod": "torch.compile, which has it in ._orig_mod",
    "_fsdp_wrapped_module": "FSDP, which has it in .module",
    "_checkpoint_wrapped_module": "activation checkpointing, which has it in .module",
    "base_model": "PEFT, whose merge_and_unload() gives it back",
}
ADAPTED = re.compile(r"\.(lora_|base_layer\.)")  # in names of PEFT
MERGE = (
    "merge it: PeftModel.from_pretrained(model, ADAPTER).merge_and_unload().save_pretrained(NEW)"
)
FLOAT = "export the float checkpoint that was quantized: --precision int8 or int4 quantizes it"


def check_adapter(folder: Path) -> None:
    """Raise CheckpointError where an adapter lies in ``folder``: a bundle would be the model
    without it, and transformers loads the model with it.
    """
    files = [name for name in ADAPTERS if (folder / name).exists()]
    if not files:
        return
    fix = f"{MERGE} and export that"
    if (folder / CONFIG).exists():
        fix += ", or move the adapter's files away to export the model without it"
    raise CheckpointError(
        f"{folder} holds an adapter (LoRA) that is not merged: {labels(files)}", fix
    )


def check_quantized(config: Mapping[str, Any], folder: Path) -> None:
    """Raise CheckpointError where ``config`` or a file in ``folder`` says that its weights are
    quantized.
    """
    for part in levels(config):
        for key in QUANTIZATIONS:
            if part.get(key) is not None:
                raise _quantized(folder, _method(part[key]), f"{key} in {CONFIG}")
    for name, method in QUANTIZERS.items():
        if (folder / name).exists():
            raise _quantized(folder, method, name)


def _method(settings: Any) -> str:
    """The name of the tool that quantized."""
    if isinstance(settings, dict):
        for key in ("quant_method", "format"):
            if isinstance(settings.get(key), str):
                return brief(settings[key]).strip("'\"")
        if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
            return "bitsandbytes"
    return "an unknown method"


def _quantized(folder: Path, method: str, where: str) -> CheckpointError:
    return CheckpointError(f"{folder} holds weights quantized by {method} ({where})", FLOAT)


def check_names(names: Collection[str], expected: Collection[str], folder: Path) -> None:
    """Raise CheckpointError where the tensors ``names`` in ``folder`` are the ``expected`` ones as
    another tool left them.
    """
    lora = list(filter(ADAPTED.search, names))
    if lora:
        raise CheckpointError(
            f"{folder} holds a PEFT model whose adapter is not merged: {labels(lora)}",
            "save what merge_and_unload() returns",
        )
    for ending, method in QUANTIZED.items():
        beside = [name for name in names if name.endswith(ending)]
        if beside:
            raise _quantized(folder, method, labels(beside))
    _check_wrapper(names, expected, folder)


def _check_wrapper(names: Collection[str], expected: Collection[str], folder: Path) -> None:
    segments = set[str]()
    for name in names:
        segments.update(name.split("."))
    tools = [tool for segment, tool in WRAPPERS.items() if segment in segments]
    if tools:
        around = " and ".join(tools)
        raise CheckpointError(
            f"{folder} holds the weights of a model inside {around}: "
            f"the first is called {brief(min(names))}",
            "save the state_dict of the model inside",
        )
    prefixes = {name.partition(".")[0] for name in names}
    inner = {name.partition(".")[2] for name in names}
    if len(prefixes) == 1 and inner <= set(expected):
        raise CheckpointError(
            f"{folder} holds tensors whose names all begin with {brief(prefixes.pop())}",
            "save the state_dict of the model inside",
        )
