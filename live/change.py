"""Whether a picture shows something new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.live.frame import Frame

    Luma = NDArray[np.uint8]

# A whole picture's mean does not see a small object; a cell's does, and noise is averaged out.
WIDTH = 64
HEIGHT = 36
COLUMNS = 16
ROWS = 9
THRESHOLD = 0.06  # of the whole range; a still scene's noise stays below 0.004


def read_threshold(name: str, value: float | bool) -> float | None:
    """The threshold that the option ``name`` gives; True: the usual one, False: None.

    Raises VptError for one out of range.
    """
    if value is False:
        return None
    if value is True:
        return THRESHOLD
    if not 0 < value < 1:
        raise VptError(f"{name} is {value}, expected a share between 0 and 1, such as 0.06")
    return value


def largest_change(luma: Luma, other: Luma) -> float:
    """The mean difference, 0 to 1, in the cell of the picture where it is largest.

    Both are (36, 64) uint8, in 16x9 cells of 4x4.
    """
    difference = np.abs(luma.astype(np.int16) - other)
    cells = difference.reshape(ROWS, HEIGHT // ROWS, COLUMNS, WIDTH // COLUMNS)
    return float(cells.mean((1, 3)).max()) / 255


class ChangeGate:
    """Lets a frame through that differs from the last one that was asked about.

    Not from the one before it: what changes slowly would never get through.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._reference: Luma | None = None

    def is_open(self, frame: Frame) -> bool:
        """Whether ``frame`` differs by the threshold in some cell; the first one does."""
        if self._reference is None:
            return True
        luma = frame.raster.to_luma(WIDTH, HEIGHT)
        return largest_change(luma, self._reference) >= self._threshold

    def remember(self, frame: Frame) -> None:
        """``frame`` is asked about: later ones are held against it."""
        self._reference = frame.raster.to_luma(WIDTH, HEIGHT)

    def forget(self) -> None:
        """There was no answer to it: the next frame is let through, whatever it shows."""
        self._reference = None
