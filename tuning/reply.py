"""What became of one sample in a trial, and its line in the journal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vpt_edge.calibration.outcome import Outcome
from vpt_edge.runtime.perception.actions import Crop, Reencode, Whole
from vpt_edge.runtime.result import Looked

if TYPE_CHECKING:
    from vpt_edge.calibration.metrics import Metric
    from vpt_edge.calibration.sample import Sample
    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.perception.actions import PerceptionAction


@dataclass(frozen=True)
class Reply:
    """An outcome with its times, in seconds: the wait for the first token, and the whole answer.

    Both are None where the sample could not be asked.
    """

    outcome: Outcome
    first_token: float | None = None
    whole: float | None = None

    @property
    def looked_tokens(self) -> list[int]:
        """Of each look at pixels, the visual tokens."""
        looks = self.outcome.looks
        return [look.tokens for look in looks if not isinstance(look.action, Reencode)]

    def score(self, sample: Sample, metric: Metric) -> Reply:
        """The same by ``metric``: the journal has texts, not scores."""
        outcome = self.outcome
        score = None
        if sample.answer is not None and outcome.finish_reason == "failed":
            score = 0.0
        elif sample.answer is not None:
            score = metric(outcome.text, sample.answer)
        return replace(self, outcome=replace(outcome, score=score))

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without the score."""
        outcome = self.outcome
        return {
            "text": outcome.text,
            "raw": outcome.raw,
            "looks": [_write_look(look) for look in outcome.looks],
            "seconds": outcome.seconds,
            "finish_reason": outcome.finish_reason,
            "error": outcome.error,
            "first_token": self.first_token,
            "whole": self.whole,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Reply:
        """What ``to_dict`` wrote. Raises KeyError, TypeError and ValueError for anything else."""
        outcome = Outcome(
            text=data["text"],
            raw=data["raw"],
            looks=tuple(_read_look(look) for look in data["looks"]),
            score=None,
            seconds=data["seconds"],
            finish_reason=data["finish_reason"],
            error=data["error"],
        )
        return cls(outcome, data["first_token"], data["whole"])


def _write_look(look: Looked) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": look.kind, "tokens": look.tokens, "picture": look.picture}
    if isinstance(look.action, Crop):
        data |= {"cells": look.cells, "box": look.action.box, "area": look.area}
    return data


def _read_look(data: dict[str, Any]) -> Looked:
    action: PerceptionAction = Reencode(data["kind"])
    area = None
    if data["kind"] == "region":
        cells = data["cells"]
        action = Crop(None if cells is None else _box(cells), _box(data["box"]))
        area = None if data["area"] is None else _box(data["area"])
    elif data["kind"] == "whole":
        action = Whole(data["picture"])
    return Looked(action, data["tokens"], picture=data["picture"], area=area)


def _box(values: list[int]) -> Box:
    left, top, right, bottom = map(int, values)
    return left, top, right, bottom
