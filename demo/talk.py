"""Conversations as token ids, piece by piece as the chat template has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vocabulary import SUFFIXES, SYSTEM

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from vpt_edge.live.scenes import Cell

TURN = "\n<|im_start|>user\n<|vision_start|>"
REPLY = "<|im_end|>\n<|im_start|>assistant\n"
ACTION = "<|clip_action_start|><|clip_action|><|clip_action_end|>"


class Talk:
    """The fixed pieces of every conversation, and the ones a question makes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        names = ("im_end", "image_pad", "clip_image_pad", "clip_action", "clip_action_start")
        self.end, self.image_pad, self.clip_pad, self.action, self.action_start = (
            self.ids(f"<|{name}|>")[0] for name in names
        )
        self.opening = self.ids(f"<|im_start|>system\n{SYSTEM}<|im_end|>{TURN}")
        self.looked = self.ids(f"<|vision_end|>{REPLY}")  # behind the second picture

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def asked(self, question: str, perception: str) -> list[int]:
        """From behind the first picture to the beginning of the answer."""
        return self.ids(f"<|vision_end|>\n{question}{SUFFIXES[perception]}{REPLY}")

    def said(self, text: str) -> list[int]:
        """An answer with its end token."""
        return [*self.ids(text), self.end]

    def turn(self, pad: int, count: int) -> list[int]:
        """The second user turn up to the last of ``count`` pads."""
        return [*self.ids(TURN), *[pad] * count]


def region(cell: Cell) -> str:
    """The tokens that select one cell."""
    x, y = cell
    return f"<|region_token_start|><|x_{x}|><|y_{y}|><|x_{x}|><|y_{y}|><|region_token_end|>"
