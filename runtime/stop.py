"""Texts in front of which a turn ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopText:
    """Lets a text that comes in pieces pass as far as the first of ``stops``.

    The first is the one that is complete first; of several that end together, the longest. So it
    is the same however the text is cut into pieces. What one of them may begin with is held back
    until it is decided.

    ``sequence``: the one that came, or None. ``shown``: what has passed, where there are stops.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.sequence: str | None = None
        self.shown = ""
        self._stops = stops
        self._held = ""

    def take(self, piece: str) -> str:
        """What passes now that ``piece`` has come."""
        if not self._stops:
            return piece
        if self.sequence is not None:
            return ""
        text = self._held + piece
        self.sequence = find_first(self._stops, text)
        if self.sequence is None:
            end = len(text) - count_undecided(self._stops, text)
            self._held = text[end:]
        else:
            end = text.index(self.sequence)
            self._held = ""
        self.shown += text[:end]
        return text[:end]

    def finish(self) -> str:
        """What was held back, now that the text is over."""
        rest = self._held
        self._held = ""
        self.shown += rest
        return rest


def find_first(stops: Sequence[str], text: str) -> str | None:
    """The one of ``stops`` that ends first in ``text``; of several that end there, the longest."""
    present = [stop for stop in stops if stop in text]
    if not present:
        return None
    return min(present, key=lambda stop: (text.index(stop) + len(stop), -len(stop)))


def count_undecided(stops: Sequence[str], text: str) -> int:
    """How many letters at the end of ``text`` are what one of ``stops`` begins with."""
    longest = max(map(len, stops), default=0)
    for start in range(max(0, len(text) - longest), len(text)):
        rest = text[start:]
        if any(stop.startswith(rest) for stop in stops):
            return len(rest)
    return 0
