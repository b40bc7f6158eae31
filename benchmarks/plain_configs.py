"""config.json of released models without looks of their own, but for the tokens."""

from __future__ import annotations

from typing import Any

VOCABULARY = 151936
QWEN2_5_VL: dict[str, Any] = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "hidden_act": "silu",
    "max_position_embeddings": 128000,
    "model_type": "qwen2_5_vl",
    "rms_norm_eps": 1e-6,
    "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
    "rope_theta": 1e6,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
}
VISION: dict[str, Any] = {
    "depth": 32,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "hidden_act": "silu",
    "hidden_size": 1280,
    "in_chans": 3,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "spatial_patch_size": 14,
    "temporal_patch_size": 2,
    "tokens_per_second": 2,
    "window_size": 112,
}
CONFIGS: dict[str, dict[str, Any]] = {  # by the name of the model
    "qwen2.5-vl-3b": {
        **QWEN2_5_VL,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_attention_heads": 16,
        "num_hidden_layers": 36,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "vision_config": {**VISION, "out_hidden_size": 2048},
        "vocab_size": VOCABULARY,
    },
    "qwen2.5-vl-7b": {
        **QWEN2_5_VL,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vision_config": {**VISION, "out_hidden_size": 3584},
        "vocab_size": 152064,
    },
}
