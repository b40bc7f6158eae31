"""The demo's tokenizer and the small files around it, as a released checkpoint has them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from vpt_edge.live.scenes import GRID

SYSTEM = "You are a helpful assistant."
SUFFIXES = {
    "region": " \nIdentify the region that can help you answer the question, "
    "and then answer the question.",
    "reencode": " \nRequire additional perception features, and then answer the question.",
    "free": "",
}
SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|clip_image_pad|>",
)
PERCEPTION = (
    "<|region_token_start|>",
    "<|region_token_end|>",
    *(f"<|{axis}_{index}|>" for axis in "xy" for index in range(GRID)),
    "<|clip_action_start|>",
    "<|clip_action|>",
    "<|clip_action_end|>",
)
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY = 512


def build(texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE with Qwen2's pre-tokenizer; its merges know ``texts``, so that prompts are
    short.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    limit = VOCABULARY - len(SPECIALS) - len(PERCEPTION)
    trainer = trainers.BpeTrainer(
        vocab_size=limit,
        min_frequency=1,
        initial_alphabet=alphabet,
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in SPECIALS]
    )
    tokenizer.add_tokens(
        [AddedToken(token, normalized=True, special=False) for token in PERCEPTION]
    )
    return tokenizer


def write(folder: Path, tokenizer: Tokenizer) -> None:
    """tokenizer.json and its companions."""
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    ids = {token: tokenizer.token_to_id(token) for token in (*SPECIALS, *PERCEPTION)}
    flags = {"lstrip": False, "rstrip": False, "single_word": False}
    decoder = {
        str(index): {
            "content": token,
            **flags,
            "normalized": token in PERCEPTION,
            "special": token in SPECIALS,
        }
        for token, index in ids.items()
    }
    additional = list(SPECIALS[1:])
    dump(folder / "added_tokens.json", dict(sorted(ids.items())))
    dump(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": decoder,
            "additional_special_tokens": additional,
            "bos_token": None,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 32768,
            "pad_token": "<|endoftext|>",
            "padding_side": "right",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    plain = {**flags, "normalized": False}
    dump(
        folder / "special_tokens_map.json",
        {
            "additional_special_tokens": [*additional[:-1], {"content": additional[-1], **plain}],
            "eos_token": {"content": "<|im_end|>", **plain},
            "pad_token": {"content": "<|endoftext|>", **plain},
        },
    )


def dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
