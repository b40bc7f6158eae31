"""Keys of config.json that other models have, and Qwen3-VL's graphs take no account of."""

from __future__ import annotations

from typing import Any

from vpt_edge.export.models.qwen2_vl import foreign

QWEN3_VL = foreign.Family("qwen3_vl", "Qwen3-VL")

# Patterns of keys, and the values that ask for nothing more than Qwen3-VL does anyway.
TEXT: dict[str, tuple[Any, ...]] = {
    **foreign.TEXT,
    "attention_bias": (),
    "mrope_interleaved": (True,),
    foreign.HEAD_NORMS: (True,),
}
VISION: dict[str, tuple[Any, ...]] = {
    r"(fullatt_block_indexes|window_size|tokens_per_second)": (),  # Qwen2.5-VL
    **foreign.VISION_COMMON,
}
