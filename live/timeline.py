"""Positions in a clip, from time stamps that may be wrong."""

from __future__ import annotations

STEP = 1 / 30  # seconds between two pictures, where nothing says it
LONGEST = 3600.0  # seconds between two pictures that can be meant, as in a time lapse


class Timeline:
    """Seconds since the first picture, growing with each.

    Time stamps that are missing, run backwards, or jump by more than an hour count as one step.
    """

    def __init__(self, step: float | None = None) -> None:
        self._step = step or STEP
        self._position: float | None = None
        self._offset = 0.0  # from a stamp to a position

    def place(self, stamp: float | None) -> float:
        """The position of the next picture. ``stamp``: its own, in seconds from anywhere."""
        if self._position is None:
            self._position = 0.0
            self._offset = -(stamp or 0.0)
            return 0.0
        position = self._position + self._step
        if stamp is not None:
            ahead = stamp + self._offset - self._position
            if 0 < ahead <= LONGEST:
                position = stamp + self._offset
            else:
                self._offset = position - stamp
        self._position = position
        return position
