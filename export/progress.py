"""How far an export is: each stage is given a part of the whole, and never runs back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Listener = Callable[[str, float], object]  # is told a stage and the share of the whole that is done


@dataclass(frozen=True)
class Progress:
    """The part from ``start`` to ``end`` of what ``listener`` is told, stages behind ``prefix``."""

    listener: Listener
    start: float = 0.0
    end: float = 1.0
    prefix: str = ""

    def tell(self, stage: str, share: float) -> None:
        """``share`` of this part is done (0 to 1), and ``stage`` begins."""
        share = min(max(share, 0.0), 1.0)
        place = self.start + share * (self.end - self.start)
        self.listener(f"{self.prefix}{stage}", place)

    def part(self, start: float, end: float, prefix: str = "") -> Progress:
        """From ``start`` to ``end`` (shares of this part), for whoever does that much of it."""
        width = self.end - self.start
        return Progress(
            self.listener,
            self.start + start * width,
            self.start + end * width,
            f"{self.prefix}{prefix}",
        )
