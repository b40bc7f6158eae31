"""A cv2.VideoCapture that the application opened; cv2 itself is not needed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vpt_edge.live.feed import Picture, Pictures
from vpt_edge.live.frame import ArrayRaster
from vpt_edge.live.timeline import Timeline
from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.hint import give_hint

if TYPE_CHECKING:
    from numpy.typing import NDArray

POS_MSEC = 0  # of cv2's CAP_PROP_
FRAME_COUNT = 7
N_THREADS = 70


class Capture(Protocol):
    """What is used of cv2.VideoCapture."""

    def isOpened(self) -> bool: ...  # noqa: N802

    def read(self) -> tuple[bool, Any]: ...

    def get(self, property: int, /) -> float: ...  # noqa: A002


class CaptureFeed:
    """The pictures of ``capture``, blue first, as OpenCV has them. Whoever opened it releases it.

    ``is_file``: whether it has a last picture, and time stamps that mean something.
    """

    undecoded = 0

    def __init__(self, capture: Capture) -> None:
        self.name = f"the {type(capture).__name__}"
        self._capture = capture
        self.is_file = capture.get(FRAME_COUNT) > 0
        if not self.is_file and capture.get(N_THREADS) > 1:
            give_hint(
                f"{self.name} decodes in {capture.get(N_THREADS):.0f} threads, and each makes it a "
                "frame late; open it with [cv2.CAP_PROP_N_THREADS, 1]"
            )

    def pictures(self) -> Pictures:
        timeline = Timeline()
        is_read, pixels = self._capture.read()
        while is_read:
            position = None
            if self.is_file:
                position = timeline.place(self._capture.get(POS_MSEC) / 1000)
            yield Picture(BlueFirstRaster(_check(pixels, self.name)), position=position)
            is_read, pixels = self._capture.read()
        if not self.is_file:
            fix = "only who opened it can open it again; live.open of its address does it by itself"
            raise SourceError(f"{self.name} gives no more pictures, and does not say why", fix)

    def interrupt(self) -> None:
        """Nothing: cv2 has no way to end a read, and to release it during one is a crash."""


class BlueFirstRaster:
    """An array (height, width, 3) uint8, blue first."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels

    def to_rgb(self) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._pixels[:, :, ::-1])

    def to_luma(self, width: int, height: int) -> NDArray[np.uint8]:
        return ArrayRaster(self.to_rgb()).to_luma(width, height)


def check_capture(capture: Capture) -> Capture:
    """Raises SourceError for one that is not open."""
    if not capture.isOpened():
        problem = f"the {type(capture).__name__} is not open, and cv2 does not say why"
        raise SourceError(problem, "live.open of the address itself says it")
    return capture


def _check(pixels: Any, name: str) -> NDArray[np.uint8]:
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3:
        found = getattr(pixels, "shape", type(pixels).__name__)
        expected = "expected (height, width, 3) uint8, blue first"
        raise SourceError(f"{name} gives {found}, {expected}", "leave CAP_PROP_CONVERT_RGB on")
    return pixels
