"""The options of a source."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypedDict

from vpt_edge.live.flip import FLIPS
from vpt_edge.live.reader import Patience
from vpt_edge.runtime.errors import SourceError

# The least value of each, and what it has to be.
RANGES: dict[str, tuple[float, type, str]] = {
    "width": (1, Integral, "a whole number of pixels"),
    "height": (1, Integral, "a whole number of pixels"),
    "rate": (0.001, Real, "a number of pictures a second"),
    "loop": (-1, Integral, "how many times it is repeated, -1 for ever"),
    "latency": (0, Integral, "a whole number of milliseconds"),
    "stall": (0.1, Real, "a number of seconds"),
    "retries": (0, Integral, "a number of tries"),
}
LARGEST = 1_000_000


class SourceOptions(TypedDict, total=False):
    """What ``open_source`` takes by keyword."""

    width: int | None
    height: int | None
    rate: float | None
    codec: str | None
    flip: str | None
    loop: int | None
    latency: int | None
    stall: float | None
    retries: int | None
    eco: bool


@dataclass(frozen=True)
class Options:
    """The options of a source; None is the source's own default.

    ``width``, ``height``: pixels. ``rate``: pictures a second. ``codec``: the camera's format, as
    FFmpeg names it. ``flip``: one of FLIPS. ``loop``: how often a file is given again, -1 for ever.
    ``latency``: milliseconds to wait for packets that come out of order. ``stall``: seconds without
    a picture until a source is lost. ``retries``: tries in a row that may fail until it is given
    up, None: without end. ``eco``: decode only the frames of a live source that somebody looks at,
    and of a clip its key frames, which are then all its frames.

    Raises SourceError for values of another type or out of range.
    """

    width: int | None = None
    height: int | None = None
    rate: float | None = None
    codec: str | None = None
    flip: str | None = None
    loop: int | None = None
    latency: int | None = None
    stall: float | None = None
    retries: int | None = None
    eco: bool = False

    def __post_init__(self) -> None:
        for name, (least, kind, expected) in RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            is_number = isinstance(value, kind) and not isinstance(value, bool)
            if not is_number or not least <= value <= LARGEST:
                raise SourceError(f"{name} is {value!r}, expected {expected}")
        if self.codec is not None and not isinstance(self.codec, str):
            raise SourceError(f"codec is {self.codec!r}, expected a text")
        if self.flip is not None and self.flip not in FLIPS:
            raise SourceError(f"flip is {self.flip!r}, expected one of {', '.join(FLIPS)}")
        if not isinstance(self.eco, bool):
            raise SourceError(f"eco is {self.eco!r}, expected True or False")
        if (self.width is None) != (self.height is None):
            raise SourceError("width and height are given together or not at all")

    def given(self) -> dict[str, Any]:
        """Those that are not the default, by name."""
        values = dict[str, Any]()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not field.default:
                values[field.name] = value
        return values

    def patience(self) -> Patience:
        """For how long a live source may be silent or away."""
        if self.stall is None:
            return Patience(retries=self.retries)
        return Patience(self.stall, self.retries)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height), ``width`` and ``height`` where nothing else is asked for."""
        return (self.width or width, self.height or height)
