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
QWEN3_TEXT: dict[str, Any] = {
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 262144,
    "model_type": "qwen3_vl_text",
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
        "rope_type": "default",
    },
    "rope_theta": 5000000,
    "vocab_size": VOCABULARY,
}
QWEN3_VISION: dict[str, Any] = {
    "deepstack_visual_indexes": [5, 11, 17],
    "depth": 24,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1024,
    "in_channels": 3,
    "intermediate_size": 4096,
    "model_type": "qwen3_vl",
    "num_heads": 16,
    "num_position_embeddings": 2304,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
LARGE_TOWER: dict[str, Any] = {
    **QWEN3_VISION,
    "deepstack_visual_indexes": [8, 16, 24],
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
}


def qwen3_vl(tied: bool, tower: dict[str, Any], **text: Any) -> dict[str, Any]:
    """As transformers 4.57 writes it; ``text`` is what differs from size to size."""
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "text_config": {**QWEN3_TEXT, **text, "tie_word_embeddings": tied},
        "tie_word_embeddings": tied,
        "transformers_version": "4.57.0",
        "vision_config": {**tower, "out_hidden_size": text["hidden_size"]},
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
    "qwen3-vl-2b": qwen3_vl(
        tied=True,
        tower=QWEN3_VISION,
        hidden_size=2048,
        intermediate_size=6144,
        num_attention_heads=16,
        num_hidden_layers=28,
    ),
    "qwen3-vl-4b": qwen3_vl(
        tied=True,
        tower=QWEN3_VISION,
        hidden_size=2560,
        intermediate_size=9728,
        num_attention_heads=32,
    ),
    "qwen3-vl-8b": qwen3_vl(
        tied=False,
        tower=LARGE_TOWER,
        hidden_size=4096,
        intermediate_size=12288,
        num_attention_heads=32,
    ),
}
