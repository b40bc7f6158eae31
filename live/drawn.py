"""Pictures that are drawn, as often as a camera would give them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from vpt_edge.live.feed import Picture, Pictures
from vpt_edge.live.frame import ArrayRaster

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Drawing(Protocol):
    """A picture for each moment."""

    def pixels(self, position: float) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB, ``position`` seconds after the beginning."""
        ...

    def truth(self, position: float) -> Mapping[str, str]:
        """Right answers by their questions, where there are any."""
        ...


class DrawnFeed:
    """``drawing`` at ``rate`` pictures a second; those that its reader was too slow for are not
    drawn.
    """

    undecoded = 0

    def __init__(self, name: str, drawing: Drawing, rate: float) -> None:
        self.name = name
        self._drawing = drawing
        self._step = 1 / rate
        self._interrupted = threading.Event()

    def pictures(self) -> Pictures:
        self._interrupted.clear()
        beginning = time.monotonic()
        index = 0
        while not self._interrupted.is_set():
            position = index * self._step
            raster = ArrayRaster(self._drawing.pixels(position))
            truth = self._drawing.truth(position)
            yield Picture(raster, beginning + position, position, truth)
            due = int((time.monotonic() - beginning) / self._step)
            index = max(index + 1, due)
            self._interrupted.wait(beginning + index * self._step - time.monotonic())

    def interrupt(self) -> None:
        self._interrupted.set()
