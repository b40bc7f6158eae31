"""Keys of config.json that other models have: where one asks for something, Qwen2-VL's graphs would
compute otherwise than the model that it describes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpt_edge.export.config_files import is_same
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import brief, label

NOTHING: tuple[Any, ...] = (None, False, 0, 0.0, "", [], {})  # values that ask for nothing
PARTS = r"(?!_moe)\w*"  # what versions put behind a model's name in those of its parts
HEAD_NORMS = r"(use_)?qk_?(layer)?_?norm"  # Cohere, Qwen3


@dataclass(frozen=True)
class Family:
    """A family as config.json calls it, and as people do."""

    model_type: str
    name: str


QWEN2_VL = Family("qwen2_vl", "Qwen2-VL")

# Patterns of keys, and the values that ask for nothing more than Qwen2-VL does anyway.
TEXT: dict[str, tuple[Any, ...]] = {
    r"\w*soft_?cap\w*": (),  # Gemma 2, Grok
    r"\w*multiplier": (1.0,),  # Granite
    r"(logits?_scal(e|ing)|scale_(emb|depth))": (1.0,),  # Granite, Cohere, MiniCPM
    r"(query_pre_attn_scalar|clip_qkv)": (),  # Gemma 2, OLMo
    HEAD_NORMS: (),
    r"(attention_chunk_size|no_rope_layers|sliding_window_pattern)": (),  # Llama 4, Gemma 3
    r"(rope_local_base_freq|rope_interleaved)": (),  # Gemma 3
    "mrope_interleaved": (),  # Qwen3-VL
    r"num(_local)?_experts": (),  # mixtures
    r"(mlp_bias|parallel_attn|use_parallel_residual|alibi)": (),
    r"(is_encoder_decoder|add_cross_attention|use_bidirectional_attention|pruned_heads)": (),
    "hidden_activation": ("silu",),
}
VISION_COMMON: dict[str, tuple[Any, ...]] = {
    HEAD_NORMS: (),
    r"(layer_norm_eps|rms_norm_eps)": (1e-6,),
    "rope_theta": (10000.0,),
    "rope_parameters": (  # transformers 5 writes what it computes
        {"rope_type": "axial", "rope_theta": 10000.0},
        {"rope_type": "default", "rope_theta": 10000.0},
    ),
    "pruned_heads": (),
}
VISION: dict[str, tuple[Any, ...]] = {
    r"(fullatt_block_indexes|window_size|tokens_per_second)": (),  # Qwen2.5-VL
    r"(deepstack_visual_indexes|num_position_embeddings)": (),  # Qwen3-VL
    **VISION_COMMON,
}


def check_foreign(
    part: Mapping[str, Any],
    keys: Mapping[str, tuple[Any, ...]],
    file: Path,
    prefix: str = "",
    model: str = "Qwen2-VL",
) -> None:
    """Raise CheckpointError where ``part`` of config.json asks for what ``keys`` name.

    ``file`` and ``prefix`` say in the error where it stands, ``model`` what has none of it.
    """
    for key, value in part.items():
        for pattern, quiet in keys.items():
            if re.fullmatch(pattern, key) and not _is_one_of(value, (*NOTHING, *quiet)):
                raise CheckpointError(
                    f"{file} describes a model that vpt-edge cannot export: "
                    f"{prefix}{label(key)} is {brief(value)}, and {model} has none"
                )


def check_type(part: Mapping[str, Any], file: Path, prefix: str, model: str = "qwen2_vl") -> None:
    """Raise CheckpointError where a nested ``part`` of config.json is not ``model``'s."""
    name = part.get("model_type")
    if name is None:
        return
    if isinstance(name, str) and re.fullmatch(f"{model}{PARTS}", name, re.ASCII):
        return
    raise CheckpointError(
        f"{file} describes a model that vpt-edge cannot export: "
        f"{prefix}model_type is {brief(name)}, expected '{model}' or one of its parts"
    )


def _is_one_of(value: Any, others: tuple[Any, ...]) -> bool:
    return any(is_same(value, other) for other in others)
