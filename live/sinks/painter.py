"""What a source shows, with its answers drawn in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.live.frame import Frame
from vpt_edge.live.overlay import Overlay
from vpt_edge.live.seen import Seen

if TYPE_CHECKING:
    from PIL import Image

    from vpt_edge.live.sinks.sink import Item

ROUNDING = 1e-6  # seconds


class Painter:
    """Draws the answers about ``source`` into its frames, at most ``rate`` a second or all."""

    wants = (Frame, Seen)

    def __init__(self, source: str, rate: float | None = None) -> None:
        self.source = source
        self._rate = rate
        self._overlay = Overlay()
        self._tick = -1

    def paint(self, item: Item) -> Image.Image | None:
        """The picture of a frame that is due, RGB; None of anything else, which is drawn later."""
        if isinstance(item, Seen) and item.frame.source == self.source:
            self._overlay.add(item)
        if isinstance(item, Frame) and item.source == self.source and self._is_due(item):
            return self._overlay.draw(item)
        return None

    def _is_due(self, frame: Frame) -> bool:
        if self._rate is None:
            return True
        tick = int((frame.position + ROUNDING) * self._rate)
        is_due = tick != self._tick
        self._tick = tick
        return is_due
