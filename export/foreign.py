"""What a folder of weights may be besides a checkpoint that can be exported, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vpt_edge.export.config_files import CONFIG, levels
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import brief, labels

ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
QUANTIZATIONS = {  # keys of config.json, and the tool that writes one
    "quantization_config": "an unknown method",
    "compression_config": "an unknown method",
    "quantization": "MLX",
}
QUANTIZERS = {  # files that lie beside weights of older tools
    "quantize_config.json": "GPTQ",
    "quant_config.json": "AWQ",
    "hf_quant_config.json": "ModelOpt",
}
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
        for key, usual in QUANTIZATIONS.items():
            if part.get(key) is not None:
                raise quantization_error(folder, _method(part[key]) or usual, f"{key} in {CONFIG}")
    for name, method in QUANTIZERS.items():
        if (folder / name).exists():
            raise quantization_error(folder, method, name)


def _method(settings: Any) -> str | None:
    """The name of the tool that quantized, where ``settings`` say it."""
    if isinstance(settings, dict):
        for key in ("quant_method", "format"):
            if isinstance(settings.get(key), str):
                return brief(settings[key]).strip("'\"")
        if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
            return "bitsandbytes"
    return None


def quantization_error(folder: Path, method: str, where: str) -> CheckpointError:
    """That the weights in ``folder`` are quantized, and what shows it."""
    return CheckpointError(f"{folder} holds weights quantized by {method} ({where})", FLOAT)
