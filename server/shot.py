"""The frame of a source that a question is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpt_edge.live.seen import DIGITS, isoformat

if TYPE_CHECKING:
    from vpt_edge.server.still import Still


@dataclass(frozen=True)
class Shot:
    """``age_at_start``: seconds from the capture until the question was put."""

    source: str
    still: Still
    age_at_start: float

    def to_dict(self) -> dict[str, Any]:
        """It as JSON types, while its answer is to come."""
        frame = self.still.frame
        return {
            "source": self.source,
            "number": frame.number,
            "time": isoformat(frame.time),
            "age_at_start": round(self.age_at_start, DIGITS),
        }

    def conclude(self) -> dict[str, Any]:
        """The same when the answer is complete, with ``age_at_end``."""
        return {**self.to_dict(), "age_at_end": round(self.still.frame.age, DIGITS)}
