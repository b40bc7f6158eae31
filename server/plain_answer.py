"""An answer as it waits for its client, which may be slow: without pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from vpt_edge.runtime.result import Finished, Looked

if TYPE_CHECKING:
    from PIL import Image

    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.queue import EventStream
    from vpt_edge.runtime.result import Answer, Event, Refused, Text, Thought, Turn, Usage

QUALITY = 90  # of the JPEG: sharp enough to cut crops from


@dataclass(frozen=True)
class PlainAnswer:
    """The last event of a question: the runtime's ``Answer`` without its pictures.

    ``sizes``: width and height of each picture; ``picture``: the first as JPEG, where the client
    wants the answer stored.
    """

    text: str
    turns: tuple[Turn, ...]
    looks: tuple[Looked, ...]
    finish_reason: str
    usage: Usage
    question: str
    sizes: tuple[Size, ...]
    thoughts: str | None = None
    picture: bytes | None = field(default=None, repr=False)


PlainEvent: TypeAlias = "Text | Thought | Looked | Refused | PlainAnswer"


class PlainEvents:
    """The events of ``stream`` without pictures, which are gone once the answer is computed.

    ``with_picture``: the last one holds the picture as JPEG.
    """

    def __init__(self, stream: EventStream, with_picture: bool) -> None:
        self._stream = stream
        self._with_picture = with_picture

    def __iter__(self) -> Iterator[PlainEvent]:
        for event in self._stream:
            yield self._strip(event)

    def _strip(self, event: Event) -> PlainEvent:
        if isinstance(event, Finished):
            return strip_answer(event.answer, self._with_picture)
        if isinstance(event, Looked):
            return strip_look(event)
        return event

    def close(self) -> None:
        """As ``EventStream.close``."""
        self._stream.close()


def strip_answer(answer: Answer, with_picture: bool) -> PlainAnswer:
    images = (answer.image, *answer.others)
    picture = None
    if with_picture:
        picture = encode(answer.image)
    return PlainAnswer(
        text=answer.text,
        turns=answer.turns,
        looks=tuple(map(strip_look, answer.looks)),
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        question=answer.question,
        sizes=tuple(image.size for image in images),
        thoughts=answer.thoughts,
        picture=picture,
    )


def strip_look(looked: Looked) -> Looked:
    """``looked`` without what it shows."""
    return replace(looked, crop=None)


def encode(picture: Image.Image) -> bytes:
    """``picture`` as JPEG, in its own size: never the bytes that a client sent."""
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
