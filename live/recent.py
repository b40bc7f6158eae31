"""The last frames of a source, of which a question is about several."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.frames import MOST_FRAMES, Frames

if TYPE_CHECKING:
    from vpt_edge.live.frame import Frame

LONGEST = 3600.0  # seconds between two frames


@dataclass(frozen=True)
class Span:
    """What a question is about: the newest frame, and up to ``count`` - 1 before it, each at least
    ``every`` seconds before the next.

    Raises PromptError for numbers out of range.
    """

    count: int
    every: float = 0.5

    def __post_init__(self) -> None:
        is_whole = isinstance(self.count, Integral) and not isinstance(self.count, bool)
        if not is_whole or not 2 <= self.count <= MOST_FRAMES:
            raise PromptError(f"found {self.count!r} frames, expected 2 to {MOST_FRAMES}")
        is_number = isinstance(self.every, Real) and not isinstance(self.every, bool)
        if not is_number or not 0 < self.every <= LONGEST:
            problem = f"found {self.every!r} seconds between two frames"
            raise PromptError(f"{problem}, expected more than 0 and up to {LONGEST:.0f}")


class RecentFrames:
    """Those of one source that may still be asked about."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._frames: deque[Frame] = deque(maxlen=span.count)

    def add(self, frame: Frame) -> None:
        """Keep ``frame`` if it is far enough behind the last that is kept."""
        if self._frames and frame.position <= self._frames[-1].position:
            self._frames.clear()  # the source begins anew
        if not self._frames or frame.position - self._frames[-1].position >= self._span.every:
            self._frames.append(frame)

    def up_to(self, newest: Frame) -> Frames:
        """``newest`` and the frames before it that are as large, oldest first."""
        chosen = [newest]
        for frame in reversed(self._frames):
            is_due = chosen[0].position - frame.position >= self._span.every
            if is_due and frame.pixels.shape == newest.pixels.shape:
                chosen.insert(0, frame)
        chosen = chosen[-self._span.count :]
        begin = chosen[0].position
        seconds = [frame.position - begin for frame in chosen]
        return Frames([frame.pixels for frame in chosen], seconds)
