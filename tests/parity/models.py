"""Tiny models of each family with random weights, as transformers makes and saves them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from families import make_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

TEXT: dict[str, Any] = {
    "bos_token_id": None,
    "eos_token_id": None,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"mrope_section": [2, 3, 3], "rope_theta": 1e6, "rope_type": "default"},
    "vocab_size": 320,
}
VISION: dict[str, dict[str, Any]] = {  # by model_type
    "qwen2_vl": {"depth": 2, "embed_dim": 64, "hidden_size": 64, "num_heads": 4},
    "qwen2_5_vl": {
        "depth": 4,
        "fullatt_block_indexes": [1, 3],
        "hidden_size": 64,
        "intermediate_size": 92,
        "num_heads": 4,
        "out_hidden_size": 64,
    },
    "qwen3_vl": {
        "deepstack_visual_indexes": [0, 1, 3],
        "depth": 4,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 4,
        "num_position_embeddings": 49,
        "out_hidden_size": 64,
    },
}
CHANGES: dict[str, dict[str, Any]] = {  # of TEXT
    "qwen3_vl": {
        "head_dim": 32,
        "num_hidden_layers": 4,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [8, 4, 4],
            "rope_theta": 5e6,
            "rope_type": "default",
        },
    },
}
FAMILIES = list(VISION)
CLASSES = {  # how the names of transformers begin
    "qwen2_vl": "Qwen2VL",
    "qwen2_5_vl": "Qwen2_5_VL",
    "qwen3_vl": "Qwen3VL",
}
TIED = {"qwen2_vl"}
SIZE = {"shortest_edge": 56 * 56, "longest_edge": 1280 * 28 * 28}
PROCESSORS: dict[str, dict[str, Any]] = {
    "qwen3_vl": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16},
}


def save_model(folder: Path, family: str) -> Path:
    """A checkpoint of ``family`` in ``folder``; the same one each time."""
    import torch
    import transformers

    tokenizer = make_tokenizer()
    ids = tokenizer.get_vocab()
    name = CLASSES[family]
    tied = family in TIED
    config = getattr(transformers, f"{name}Config")(
        text_config={**TEXT, **CHANGES.get(family, {}), "tie_word_embeddings": tied},
        vision_config=VISION[family],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tied,
    )
    torch.manual_seed(11)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    for parameter in model.parameters():  # biases and norms that do something
        noise = torch.randn_like(parameter)
        scale = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        base = parameter.data if parameter.ndim == 1 else 0
        parameter.data = base + scale * noise
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    processor = {"image_processor_type": "Qwen2VLImageProcessor", "size": SIZE}
    processor |= PROCESSORS.get(family, {})
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    return folder
