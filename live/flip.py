"""Pictures turned and mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.live.frame import Raster

# Quarter turns against the clock, and whether left and right are then exchanged.
FLIPS: dict[str, tuple[int, bool]] = {
    "none": (0, False),
    "counterclockwise": (1, False),
    "rotate-180": (2, False),
    "clockwise": (3, False),
    "horizontal": (0, True),
    "vertical": (2, True),
}


class FlippedRaster:
    """``raster``, turned by ``turns`` quarters against the clock and then mirrored."""

    def __init__(self, raster: Raster, turns: int, mirrored: bool = False) -> None:
        self._raster = raster
        self._turns = turns % 4
        self._mirrored = mirrored

    def to_rgb(self) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._flip(self._raster.to_rgb()))

    def to_luma(self, width: int, height: int) -> NDArray[np.uint8]:
        if self._turns % 2 == 0:
            return self._flip(self._raster.to_luma(width, height))
        return self._flip(self._raster.to_luma(height, width))

    def _flip(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        turned = np.rot90(pixels, self._turns)
        if self._mirrored:
            return turned[:, ::-1]
        return turned


def flip_raster(raster: Raster, flip: str) -> Raster:
    """``raster`` as one of FLIPS names it."""
    turns, mirrored = FLIPS[flip]
    if turns == 0 and not mirrored:
        return raster
    return FlippedRaster(raster, turns, mirrored)
