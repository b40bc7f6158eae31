"""When a frame is asked about."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from vpt_edge.live.change import ChangeGate, read_threshold
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from vpt_edge.live.frame import Frame

Reason: TypeAlias = Literal["every", "gate"]

EVERY = 2.0  # seconds
ROUNDING = 1e-6  # seconds: 60 frames of 1/30 s are 2 s


class Schedule:
    """Decides about the frames of one source.

    ``every``: seconds of the source between frames that are asked about, 0 for each frame, None
    for those alone that somebody asks for.
    ``on_change``: ask only where a frame differs by so much, 0 to 1, from the last one that was
    asked about; True for 0.06. ``longest_silence``: with ``on_change``, ask after so many seconds
    all the same.

    Raises VptError for values out of range.
    """

    def __init__(
        self,
        every: float | None = EVERY,
        on_change: float | bool = False,
        longest_silence: float | None = None,
    ) -> None:
        self._every = every
        self._threshold = read_threshold("on_change", on_change)
        self._longest_silence = math.inf
        if every is None:
            self._check_alone()
        elif not 0 <= every < math.inf:
            raise VptError(f"every is {every}, expected seconds, or 0 for each frame")
        if longest_silence is not None:
            self._longest_silence = longest_silence
            self._check_silence()
        self._gate = None
        if self._threshold is not None:
            self._gate = ChangeGate(self._threshold)
        self._first = 0.0  # position of the first frame that was asked about
        self._last: float | None = None  # and of the last one
        self._next = 0.0

    def _check_alone(self) -> None:
        if self._threshold is not None:
            raise VptError("on_change needs every", "give seconds, or 0 to look at each frame")

    def _check_silence(self) -> None:
        if self._threshold is None:
            raise VptError("a longest silence needs on_change", "without it no frame is held back")
        if not self._longest_silence > 0:
            raise VptError(f"longest_silence is {self._longest_silence}, expected seconds above 0")

    @property
    def name(self) -> str:
        """What it does, as "every 2 s, on change of 0.06, at the latest after 60 s"."""
        if self._every is None:
            return "on request"
        parts = ["each frame"]
        if self._every:
            parts = [f"every {self._every:g} s"]
        if self._threshold is not None:
            parts.append(f"on change of {self._threshold:g}")
        if self._longest_silence < math.inf:
            parts.append(f"at the latest after {self._longest_silence:g} s")
        return ", ".join(parts)

    def find_objection(self, frame: Frame) -> Reason | None:
        """Why ``frame`` is not asked about: too soon ("every"), or nothing new ("gate")."""
        if self._every is None:
            return "every"
        if self._last is None or frame.position < self._last:  # the first, or time began anew
            return None
        if frame.position < self._next - ROUNDING:
            return "every"
        if frame.position - self._last >= self._longest_silence:
            return None
        if self._gate is not None and not self._gate.is_open(frame):
            return "gate"
        return None

    def ask(self, frame: Frame) -> None:
        """``frame`` is asked about."""
        if self._last is None or frame.position < self._last:
            self._first = frame.position
        self._last = frame.position
        self._next = frame.position
        if self._every:  # on a grid, so that frames that come late do not add up
            ticks = math.floor((frame.position - self._first + ROUNDING) / self._every)
            self._next = self._first + (ticks + 1) * self._every
        if self._gate is not None:
            self._gate.remember(frame)

    def fail(self) -> None:
        """There was no answer: nothing is held back as known already."""
        if self._gate is not None:
            self._gate.forget()
