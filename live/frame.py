"""One picture of a source, with its moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Raster(Protocol):
    """A picture as its decoder has it: most frames of a camera are never looked at."""

    def to_rgb(self) -> NDArray[np.uint8]:
        """(height, width, 3), an array that nobody else writes into."""
        ...

    def to_luma(self, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width), each the mean brightness of its part of the picture."""
        ...


class ArrayRaster:
    """An RGB array (height, width, 3) uint8; ``to_rgb`` copies one that may still be written to."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels

    def to_rgb(self) -> NDArray[np.uint8]:
        if self._pixels.flags.writeable:
            return self._pixels.copy()
        return self._pixels

    def to_luma(self, width: int, height: int) -> NDArray[np.uint8]:
        grey = Image.fromarray(self._pixels).convert("L")
        return np.asarray(grey.resize((width, height), Image.Resampling.BOX))


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    ``number`` counts the frames of the source from 0, also those that nobody took.
    ``position``: seconds since its first frame, in a file those of its time stamps. ``time``: when
    it was captured, in seconds since 1970, for people; ``monotonic``: the same on the clock that
    never jumps. ``source``: the address without its password. ``truth``: of a drawn scene, the
    right answers by their questions.
    """

    number: int
    position: float
    time: float
    monotonic: float
    source: str
    raster: Raster = field(repr=False, compare=False)
    truth: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB, not to be written to."""
        pixels = self.raster.to_rgb()
        pixels.flags.writeable = False
        return pixels

    @property
    def image(self) -> Image.Image:
        """The same as a PIL image."""
        return Image.fromarray(self.pixels)

    @property
    def age(self) -> float:
        """Seconds since it was captured."""
        return time.monotonic() - self.monotonic
