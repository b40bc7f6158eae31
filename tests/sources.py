"""Sources that give what a test tells them to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.live.frame import ArrayRaster, Frame
from vpt_edge.live.source import Counts, State
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from typing_extensions import Self

RATE = 25.0  # frames a second
BLACK = np.zeros((64, 96, 3), np.uint8)


class BrokenRaster:
    """A picture that cannot be decoded."""

    def to_rgb(self) -> Any:
        raise SourceError("the picture is broken")

    def to_luma(self, width: int, height: int) -> Any:
        raise SourceError("the picture is broken")


def frame(number: int, pixels: Any = BLACK, position: float | None = None, **rest: Any) -> Frame:
    """The frame ``number`` of a source of RATE frames a second, captured now."""
    place = number / RATE if position is None else position
    values = {"time": 1000.0 + place, "monotonic": time.monotonic(), "source": "test", **rest}
    values.setdefault("raster", ArrayRaster(pixels))
    return Frame(number=number, position=place, **values)


def clip(count: int, pixels: Any = BLACK, source: str = "test") -> list[Frame]:
    """So many frames that show the same."""
    return [frame(number, pixels, source=source) for number in range(count)]


class OpenSource:
    """What is the same for all."""

    problem: SourceError | None = None

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ClipSource(OpenSource):
    """Gives each of its frames, as a file does."""

    live = False

    def __init__(self, frames: Iterable[Frame], name: str = "test") -> None:
        self.name = name
        self.counts = Counts(opens=1)
        self.state: State = "live"
        self.closed = False
        self._frames = iter(frames)
        self._notify: Callable[[], None] = lambda: None

    def poll(self) -> Frame | None:
        found = next(self._frames, None)
        if found is None:
            self.state = "ended"
            return None
        self.counts.frames += 1
        return found

    def listen(self, notify: Callable[[], None]) -> None:
        self._notify = notify

    def close(self) -> None:
        self.closed = True
        self.state = "ended"
        self._notify()


class CameraSource(OpenSource):
    """Keeps its newest frame, which a test shows it from any thread."""

    live = True

    def __init__(self, name: str = "camera") -> None:
        self.name = name
        self.counts = Counts()
        self.state: State = "connecting"
        self._newest: Frame | None = None
        self._notify: Callable[[], None] = lambda: None

    def show(self, newest: Frame) -> None:
        if self._newest is not None:
            self.counts.dropped += 1
        self.counts.frames += 1
        self._newest = newest
        self._notify()

    def enter(self, state: State, problem: SourceError | None = None) -> None:
        self.problem = problem
        if state == "live":
            self.counts.opens += 1
        if state == "lost":
            self.counts.losses += 1
        self.state = state
        self._notify()

    def poll(self) -> Frame | None:
        newest = self._newest
        self._newest = None
        return newest

    def listen(self, notify: Callable[[], None]) -> None:
        self._notify = notify

    def close(self) -> None:
        self.enter("ended")
