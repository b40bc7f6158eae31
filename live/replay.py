"""A recording asked again, of another bundle: what an update would change in the field."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpt_edge.live.recording import Record, read_recording

if TYPE_CHECKING:
    from vpt_edge.runtime.encoded_picture import EncodedPicture
    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.result import Answer


@dataclass(frozen=True)
class Replayed:
    """What was answered then, and what is answered now."""

    record: Record
    answer: Answer

    @property
    def same_answer(self) -> bool:
        return self.answer.text == self.record.answer

    @property
    def same_looks(self) -> bool:
        looks = [look.to_dict() for look in self.answer.looks]
        if len(looks) != len(self.record.looks):
            return False
        return all(map(_is_as_recorded, looks, self.record.looks))

    @property
    def same_ids(self) -> bool:
        """Whether every token is the same, in all turns."""
        return [list(turn.generated_ids) for turn in self.answer.turns] == self.record.ids

    def describe(self) -> str:
        """As ``000012.png  Is the gate open?  yes -> no``."""
        answers = f"{self.record.answer} -> {self.answer.text}"
        return f"{self.record.image.name}  {self.record.question}  {answers}"

    def to_dict(self) -> dict[str, Any]:
        """It as JSON types."""
        return {
            "image": self.record.image.name,
            "source": self.record.source,
            "question": self.record.question,
            "before": self.record.answer,
            "after": self.answer.text,
            "truth": self.record.truth,
            "same_answer": self.same_answer,
            "same_looks": self.same_looks,
            "same_ids": self.same_ids,
        }


def _is_as_recorded(look: dict[str, Any], recorded: Any) -> bool:
    """Whether a look says what is ``recorded``, perhaps by a version that said less of it."""
    return isinstance(recorded, dict) and {**look, **recorded} == look


def replay(pipeline: Pipeline, folder: str | os.PathLike[str]) -> Iterator[Replayed]:
    """Ask ``pipeline`` everything that the recording in ``folder`` was asked, in its order.

    A picture is encoded once for its questions. Raises VptError for a folder that is not a
    recording, ImageError for a picture that is damaged.
    """
    encoded: EncodedPicture | None = None
    image = None
    try:
        for record in read_recording(folder):
            if encoded is None or record.image != image:
                if encoded is not None:
                    encoded.close()
                encoded = pipeline.encode(record.image)
                image = record.image
            yield Replayed(record, encoded.ask(record.question, **record.options))
    finally:
        if encoded is not None:
            encoded.close()


@dataclass
class Tally:
    """How much stayed the same, of ``asked`` questions; ``right_before`` and ``right_after`` of
    the ``known``, whose true answer was recorded.
    """

    asked: int = 0
    same_answers: int = 0
    same_looks: int = 0
    same_ids: int = 0
    known: int = 0
    right_before: int = 0
    right_after: int = 0

    def add(self, replayed: Replayed) -> None:
        """Count it."""
        self.asked += 1
        self.same_answers += int(replayed.same_answer)
        self.same_looks += int(replayed.same_looks)
        self.same_ids += int(replayed.same_ids)
        truth = replayed.record.truth
        if truth is not None:
            self.known += 1
            self.right_before += int(replayed.record.answer == truth)
            self.right_after += int(replayed.answer.text == truth)

    def describe(self) -> str:
        """As ``118 questions: 115 answers the same, 3 differ; 116 looked alike``."""
        differ = self.asked - self.same_answers
        text = (
            f"{self.asked} questions: {self.same_answers} answers the same, {differ} differ; "
            f"{self.same_looks} looked alike"
        )
        if self.known:
            text += f"; right {self.right_before} then, {self.right_after} now, of {self.known}"
        return text
