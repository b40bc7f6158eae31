"""Tiny checkpoints of the families without looks of their own, with random weights."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import torch
from pictures import noise
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from vpt_edge.export.exporter import export
from vpt_edge.export.models import Model
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.runtime.models.qwen2_vl import SPLIT
from vpt_edge.runtime.testing import QWEN_SPECIALS

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime import Bundle

TOOLS = ("<tool_call>", "</tool_call>")  # of the tokenizers from Qwen2.5 on
VOCABULARY = 320
TEXT: dict[str, Any] = {
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {"mrope_section": [2, 3, 3], "type": "mrope"},
    "rope_theta": 1000000.0,
    "vocab_size": VOCABULARY,
}
CONFIGS: dict[str, dict[str, Any]] = {  # by model_type, as transformers 4.45 to 4.51 write them
    "qwen2_vl": {
        **TEXT,
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "tie_word_embeddings": True,
        "vision_config": {
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": 64,
            "in_chans": 3,
            "num_heads": 4,
            "spatial_patch_size": 14,
        },
    },
}
CONFIGS["qwen2_5_vl"] = {
    **TEXT,
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "tie_word_embeddings": False,
    "vision_config": {
        "depth": 3,
        "fullatt_block_indexes": [1],
        "hidden_act": "silu",
        "hidden_size": 64,
        "in_chans": 3,
        "intermediate_size": 92,
        "num_heads": 4,
        "out_hidden_size": 64,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
    },
}
CONFIGS["qwen3_vl"] = {  # as transformers 4.57 writes it
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "text_config": {
        **TEXT,
        "attention_bias": False,
        "head_dim": 32,  # queries of 128 channels, a stream of 64
        "model_type": "qwen3_vl_text",
        "num_hidden_layers": 3,
        "rope_scaling": {
            "mrope_interleaved": True,
            "mrope_section": [8, 4, 4],
            "rope_type": "default",
        },
        "rope_theta": 5000000,
    },
    "tie_word_embeddings": True,
    "vision_config": {
        "deepstack_visual_indexes": [0, 2],
        "depth": 3,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 64,
        "in_channels": 3,
        "intermediate_size": 96,
        "model_type": "qwen3_vl",
        "num_heads": 4,
        "num_position_embeddings": 36,
        "out_hidden_size": 64,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
PIXELS = {"min_pixels": 56 * 56, "max_pixels": 12845056}


def write_checkpoint(folder: Path, model_type: str, **changes: Any) -> Path:
    """A checkpoint of ``model_type`` in ``folder``; ``changes`` are of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = tokenizer.get_vocab()
    config = {
        **CONFIGS[model_type],
        "image_token_id": ids["<|image_pad|>"],
        "model_type": model_type,
        "vision_start_token_id": ids["<|vision_start|>"],
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS), "utf-8")
    save_file(random_tensors(Model.read(config, folder)), folder / "model.safetensors")
    return folder


def random_tensors(model: Model) -> dict[str, torch.Tensor]:
    """Weights that keep a signal's size from layer to layer, the same each time."""
    random = torch.Generator().manual_seed(7)
    optional = model.tower.optional_tensors()
    tensors = {}
    for name, shape in sorted(model.tensors().items()):
        if name in optional:
            continue
        values = torch.randn(shape, generator=random)
        if len(shape) > 1:
            tensors[name] = values / math.prod(shape[1:]) ** 0.5
        elif name.endswith(".weight"):  # of a norm
            tensors[name] = 1 + 0.1 * values
        else:
            tensors[name] = 0.1 * values
    return tensors


def make_tokenizer() -> Tokenizer:
    """Bytes in Qwen2's words and its special tokens; tool calls are tokens that are not special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in QWEN_SPECIALS])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in TOOLS])
    return tokenizer


def export_family(folder: Path, family: str, precision: str, target: str) -> Bundle:
    """A bundle of a tiny checkpoint of ``family`` in ``folder``; one that is quantized is held
    against nothing.
    """
    source = folder / family
    if not source.exists():
        write_checkpoint(source, family)
    calibration = None
    if RECIPES[precision].quantized:
        data = write_questions(folder / "questions")
        calibration = Calibration(str(data), max_drop=100, block=32, answer_tokens=4)
    bundle = folder / f"{family}-{precision}-{target}"
    return export(str(source), bundle, precision=precision, target=target, calibration=calibration)


def write_questions(folder: Path) -> Path:
    """Four questions, each about noise in a size of its own: a .jsonl in ``folder``."""
    folder.mkdir(exist_ok=True)
    lines = []
    for index in range(4):
        noise(90 + 13 * index, 150 - 7 * index).save(folder / f"{index}.png")
        lines.append(json.dumps({"image": f"{index}.png", "question": f"Which? {index}"}))
    file = folder / "data.jsonl"
    file.write_text("\n".join(lines), "utf-8")
    return file
