"""What a watch gives: answers, frames that failed, and how its sources fare."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from vpt_edge.live.frame import Frame
    from vpt_edge.live.source import State
    from vpt_edge.runtime.errors import SourceError, VptError
    from vpt_edge.runtime.result import Answer

DIGITS = 3  # of seconds


@dataclass(frozen=True)
class Seen:
    """An answer about one frame.

    ``age_at_start``, ``age_at_end``: seconds since the frame was captured, when the question was
    put and when its answer was complete. ``once``: the question is not one of the watch's own, it
    was asked this once (``Watch.ask``). ``same_as``: the earlier frame whose picture was asked
    about, because ``frame`` does not differ from it (``reuse``); None: ``frame`` itself.
    """

    frame: Frame
    question: str
    answer: Answer
    age_at_start: float
    age_at_end: float
    once: bool = False
    same_as: Frame | None = None

    @property
    def shown(self) -> Frame:
        """The frame that the model was shown."""
        return self.same_as or self.frame

    def to_dict(self) -> dict[str, Any]:
        """It as JSON types: a line of ``vpt-watch --jsonl``."""
        usage = asdict(self.answer.usage)
        seconds = usage.pop("seconds")
        del usage["first_token_seconds"]
        data = {
            "time": isoformat(self.frame.time),
            "source": self.frame.source,
            "frame": self.frame.number,
            "position": round(self.frame.position, DIGITS),
            "question": self.question,
            "answer": self.answer.text,
            "finish_reason": self.answer.finish_reason,
            "looks": [look.to_dict() for look in self.answer.looks],
            "age_at_start": round(self.age_at_start, DIGITS),
            "age_at_end": round(self.age_at_end, DIGITS),
            "seconds": round(seconds["total"], DIGITS),
            "usage": usage,
        }
        if self.same_as is not None:
            data["same_as"] = self.same_as.number
        truth = self.frame.truth.get(self.question)
        if truth is not None:
            data["truth"] = truth
        return data


@dataclass(frozen=True)
class Failure:
    """A frame that could not be asked about: broken, or not to be shown to the model."""

    frame: Frame
    error: VptError

    def describe(self) -> str:
        """In words, such as ``camera: frame 12 was not asked about: …``."""
        return f"{self.frame.source}: frame {self.frame.number} was not asked about: {self.error}"


@dataclass(frozen=True)
class StateChange:
    """``source`` got into another ``state``, noticed at ``time``, in seconds since 1970.

    ``problem``: why, where that is known.
    """

    source: str
    state: State
    time: float
    problem: SourceError | None = None

    def describe(self) -> str:
        """In words, such as ``rtsp://camera/stream: lost: …``."""
        text = f"{self.source}: {self.state}"
        if self.problem is not None:
            text += f": {self.problem}"
        return text


Event: TypeAlias = "Seen | Failure | StateChange"


def isoformat(time: float) -> str:
    """Seconds since 1970 as UTC with milliseconds: ``2026-11-25T22:55:29.123+00:00``."""
    return datetime.fromtimestamp(time, timezone.utc).isoformat(timespec="milliseconds")
