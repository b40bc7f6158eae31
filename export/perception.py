"""The way of looking again that a bundle is given, and what its checkpoint must have for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.config_files import read_optional
from vpt_edge.export.described import choose_block
from vpt_edge.export.models import vpt
from vpt_edge.export.tokenizer_files import check_words
from vpt_edge.runtime.manifest import Tokens
from vpt_edge.runtime.perception.vpt import block, pads_of, token_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer


GENERATION = "generation_config.json"
PICTURE = {"image": "<|image_pad|>"}
VPT = "vpt"


@dataclass(frozen=True)
class PerceptionChoice:
    """What the manifest says of looking: its ``block``, the ``tokens`` that end a turn by it, and
    the ``words`` by which it works, each with its id.
    """

    block: dict[str, Any]
    tokens: Tokens
    pads: Mapping[str, str]
    words: Mapping[str, int]

    def check(self, file: Path) -> None:
        """Raise CheckpointError where the tokenizer in ``file`` takes apart one of its words."""
        check_words(self.pads, self.words, self.tokens, file)


def choose_vpt(
    tokenizer: Tokenizer, kind: str, prompt_triggered: bool, longest_side: int
) -> PerceptionChoice:
    """Visual Perception Tokens of ``kind``; ``longest_side`` of a picture that is re-encoded."""
    config = vpt.find_perception(tokenizer, kind, prompt_triggered, longest_side)
    ids = tokenizer.get_vocab()
    tokens = Tokens(ids["<|image_pad|>"], vpt.end_tokens(tokenizer))
    return PerceptionChoice(block(config), tokens, pads_of(kind), token_ids(config))


def choose_way(
    tokenizer: Tokenizer, asked: str | None, folder: Path, tower: str
) -> PerceptionChoice:
    """The way that was ``asked`` for, of a checkpoint in ``folder`` that has a ``tower`` and no
    tokens of VPT; None: it never looks.

    Raises CheckpointError for a way that is not known, or a description that cannot be read.
    """
    ids = tokenizer.get_vocab()
    tokens = Tokens(ids["<|image_pad|>"], _end_tokens(ids, folder))
    return PerceptionChoice(choose_block(asked, folder, tower), tokens, PICTURE, {})


def _end_tokens(ids: Mapping[str, int], folder: Path) -> tuple[int, ...]:
    """What ends a turn: the template's end, the text's, and what generation_config.json names."""
    ends = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    named = read_optional(folder / GENERATION).get("eos_token_id")
    listed = named if isinstance(named, list) else [named]
    ends += [number for number in listed if type(number) is int and number in set(ids.values())]
    return tuple(dict.fromkeys(ends))
