"""Requests over sessions that speak from a script: what the model is shown and says, and what it
must have been prompted with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vpt_edge.runtime import Answer, Bundle, Crop, Looked, Pipeline, Text
from vpt_edge.runtime.chat import PLACEHOLDER, Chat, Message
from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.perception.vpt import SYSTEM, pads_of
from vpt_edge.runtime.perception.vpt_question import question_text

if TYPE_CHECKING:
    from vpt_edge.runtime.result import Event
    from vpt_edge.runtime.testing import Script

Tiny = Callable[..., Bundle]  # opens the bundle of a kind with a cache of some capacity

PICTURE = Image.fromarray(
    np.arange(64 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 96, 3)
)
PICTURE_TOKENS = 6  # of 84x56 pixels
FIRST = question_text("What?", "free", "clip")
REGION = "<|region_token_start|><|x_1|><|y_2|><|x_3|><|region_token_end|>"
OTHER = "<|region_token_start|><|x_7|><|y_7|><|region_token_end|>"
REGION_ACTION = Crop((1, 2, 3, 2), (0, 8, 60, 32))
OTHER_ACTION = Crop((7, 7, 7, 7), (72, 48, 96, 64))


def trigger(kind: str) -> str:
    return f"<|{kind}_action_start|><|{kind}_action|><|{kind}_action_end|>"


CLIP = trigger("clip")


def events_of(script: Script, bundle: Bundle, **options: Any) -> list[Event]:
    with Pipeline(bundle, opener=script) as pipeline:
        return list(pipeline.stream(PICTURE, "What?", **options))


def answer_of(script: Script, bundle: Bundle, **options: Any) -> Answer:
    with Pipeline(bundle, opener=script) as pipeline:
        return pipeline.ask(PICTURE, "What?", **options)


def join(events: list[Event]) -> str:
    """The text behind the last look."""
    text = ""
    for event in events:
        if isinstance(event, Looked):
            text = ""
        elif isinstance(event, Text):
            text += event.piece
    return text


def chat_of(bundle: Bundle) -> Chat:
    return Chat(bundle.tokenizer_file, pads_of(bundle.manifest.perception["kind"]))


def conversation(bundle: Bundle, *texts: str, tokens: Sequence[int]) -> list[int]:
    """The ids of a conversation that the user begins and ends, with so many visual ``tokens`` in
    the place of each placeholder.
    """
    messages = [Message("system", SYSTEM)]
    for index, text in enumerate(texts):
        messages.append(Message("assistant" if index % 2 else "user", text))
    names = PLACEHOLDER.findall("".join(texts))
    shown = []
    for name, count in zip(names, tokens, strict=True):
        grid = (1, 2, 2 * count) if name == "image" else None
        shown.append(Encoded(np.zeros((count, 4), np.float32), grid))
    return chat_of(bundle).context(messages, shown).ids


def waiting(bundle: Bundle) -> Bundle:
    """Of a checkpoint that looks again when the question asks for it."""
    perception = {**bundle.manifest.perception, "prompt_triggered": True}
    return replace(
        bundle, manifest=replace(bundle.manifest, perception=perception, source="Some-VPT")
    )
