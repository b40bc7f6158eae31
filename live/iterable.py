"""Frames and arrays that an application gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.live.feed import Picture, Pictures
from vpt_edge.live.frame import ArrayRaster, Frame
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXPECTED = "expected a Frame, or an array (height, width, 3) uint8 in RGB order"


class IterableFeed:
    """Every item of ``items``: a Frame as it is, an array (height, width, 3) uint8 RGB as one.

    ``rate``: arrays a second, which gives them their positions; without it that is when they come.
    """

    undecoded = 0

    def __init__(self, items: Iterable[Frame | NDArray[np.uint8]], rate: float | None) -> None:
        self.name = f"the {type(items).__name__}"
        self._items = items
        self._rate = rate

    def pictures(self) -> Pictures:
        for index, item in enumerate(self._items):
            if isinstance(item, Frame):
                yield item
                continue
            position = None
            if self._rate is not None:
                position = index / self._rate
            yield Picture(ArrayRaster(_check(item, index, self.name)), position=position)

    def interrupt(self) -> None:
        """Nothing: what an application's iterator waits for is its own."""


def _check(item: Any, index: int, name: str) -> NDArray[np.uint8]:
    if not isinstance(item, np.ndarray):
        raise SourceError(f"item {index} of {name} is of type {type(item).__name__}, {EXPECTED}")
    if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or 0 in item.shape:
        found = f"an array {item.shape} {item.dtype}"
        raise SourceError(f"item {index} of {name} is {found}, {EXPECTED}")
    return item
