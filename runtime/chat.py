"""Tokenizer and chat template ``vpt_qwen2_vl`` (PROTOCOL 2)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from vpt_edge.runtime.errors import BundleError, PromptError
from vpt_edge.runtime.perception.vpt import KINDS

Perception: TypeAlias = Literal["free", "region", "reencode", "off"]

SYSTEM = "You are a helpful assistant."
SENTENCES = {
    "region": "Identify the region that can help you answer the question, and then answer the question",
    "reencode": "Require additional perception features, and then answer the question",
    "free": None,
    "off": None,
}
PLACEHOLDER = re.compile("<(image|detection_image|seg_image|clip_image|video)>")


@dataclass(frozen=True)
class Message:
    role: Literal["user", "assistant"]
    text: str


def question_text(question: str, perception: Perception, kind: str) -> str:
    """The first user message: the picture, the question and, for "region" and "reencode", the
    authors' sentence.

    A question that places ``<image>`` itself keeps it there. Raises PromptError for what would
    crash the authors' code with a checkpoint of ``kind``: other placeholders, a second ``<image>``,
    literal pad or action tokens."""
    if perception not in SENTENCES:
        raise PromptError(
            f"perception {perception!r} is unknown, expected one of: {', '.join(SENTENCES)}"
        )
    _check_text(question, "question", (*_pads(kind), f"<|{kind}_action|>"))
    places = PLACEHOLDER.findall(question)
    if len(places) > 1 or places not in ([], ["image"]):
        found = ", ".join(f"<{name}>" for name in places)
        raise PromptError(
            f"the question holds {found}: each stands for a picture, and there is one; remove it"
        )
    if not places:
        question = f"<image>\n{question}"
    sentence = SENTENCES[perception]
    return f"{question} \n{sentence}." if sentence else question


def check_prefix(prefix: str, kind: str) -> None:
    """Raise PromptError for an assistant's prefix that stands for pictures which are not there;
    actions are welcome."""
    _check_text(
        prefix,
        "assistant_prefix",
        (*_pads(kind), *(f"<{name}>" for name in PLACEHOLDER.findall(str(prefix)))),
    )


def _pads(kind: str) -> tuple[str, ...]:
    return "<|image_pad|>", "<|video_pad|>", f"<|{kind}_image_pad|>"


def _check_text(text: str, name: str, reserved: tuple[str, ...]) -> None:
    if not isinstance(text, str):
        raise PromptError(f"the {name} is {type(text).__name__}, expected text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the {name} is no valid text: {error.reason} at character {error.start}"
        ) from None
    found = [token for token in reserved if token in text]
    if found:
        raise PromptError(
            f"the {name} holds {', '.join(found)}, which stands for a picture or an action; remove it"
        )


class Prompt:
    """Turns messages into ids and ids into text."""

    def __init__(self, tokenizer: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # tokenizers raises bare exceptions
            raise BundleError(
                f"{tokenizer} is no tokenizer: {error}; export the checkpoint again"
            ) from error
        self._tokenizer.no_truncation()  # what a padded training left in the file; the authors' code ignores both
        self._tokenizer.no_padding()
        self._pads = {
            "image": "<|image_pad|>",
            **{f"{kind}_image": f"<|{kind}_image_pad|>" for kind in KINDS},
        }
        self._ids: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the authors' code sees of generated ids: special tokens are left out,
        triggers stay."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def stream(self, triggers: Collection[int]) -> TextStream:
        """Decodes one id at a time, without the ids of ``triggers``."""
        return TextStream(self._tokenizer, triggers)

    def conversation(
        self, messages: Iterable[Message], visuals: Mapping[str, Sequence[int]]
    ) -> list[int]:
        """The ids of ``messages``, up to where the assistant is to speak.

        ``visuals`` gives, for each kind of placeholder ("image", "clip_image", ...), the visual
        tokens of each picture in order. Raises PromptError when placeholders and pictures do not
        match."""
        ids = self.encode(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n")
        counts = {kind: iter(numbers) for kind, numbers in visuals.items()}
        for index, message in enumerate(messages):
            if message.role == "assistant":
                ids += (
                    self._expand(message.text, counts)
                    + self.encode("<|im_end|>")
                    + self.encode("\n")
                )
            else:
                text = message.text.replace("{{idx}}", str(index // 2), 1)  # PROTOCOL Q6
                ids += self._expand(
                    f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", counts
                )
        if any(next(numbers, None) is not None for numbers in counts.values()):
            raise PromptError("the messages hold fewer placeholders than there are pictures")
        return ids

    def _expand(self, text: str, counts: Mapping[str, Iterator[int]]) -> list[int]:
        pieces = PLACEHOLDER.split(text)
        ids = self.encode(pieces[0])
        for kind, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            count = next(counts.get(kind, iter(())), None)
            if count is None:
                raise PromptError(
                    f"the messages hold more <{kind}> than there are pictures of that kind"
                )
            pad = self.encode(self._pads[kind])
            ids += (
                self.encode("<|vision_start|>")
                + pad * count
                + self.encode("<|vision_end|>")
                + self.encode(piece)
            )
        return ids


class TextStream:
    """Incremental decoding: a piece of text comes when its bytes are complete; trigger tokens give
    none."""

    def __init__(self, tokenizer: Tokenizer, triggers: Collection[int]) -> None:
        self._tokenizer, self._triggers = tokenizer, triggers
        self._stream = DecodeStream(skip_special_tokens=True)

    def step(self, token: int) -> list[str]:
        """The piece that ``token`` completes, or nothing."""
        piece = None if token in self._triggers else self._stream.step(self._tokenizer, token)
        return [piece] if piece else []
