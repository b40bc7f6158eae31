"""Folders and patterns: pictures and clips, one after the other."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vpt_edge.live.address import mask
from vpt_edge.live.feed import Picture, Pictures
from vpt_edge.live.files import FOREVER, ClipFeed
from vpt_edge.live.frame import ArrayRaster, Frame
from vpt_edge.runtime.errors import ImageError, SourceError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.source import shorten

PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
CLIPS = {
    *(".3gp", ".avi", ".flv", ".h264", ".h265", ".m4v", ".mjpeg", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"),
}
RATE = 1.0  # pictures a second


class PictureFeed:
    """The pictures and clips of ``paths``, and again ``loop`` times.

    ``rate``: pictures a second, which gives them their positions. One that cannot be read is passed
    over; the first of those is said in a SourceError behind the last.
    """

    undecoded = 0

    def __init__(self, name: str, paths: Sequence[Path], rate: float, loop: int = 0) -> None:
        self.name = name
        self._paths = paths
        self._step = 1 / rate
        self._loop = loop
        self._clip: ClipFeed | None = None

    def pictures(self) -> Pictures:
        beginning = 0.0
        rounds = 0
        while rounds <= self._loop or self._loop == FOREVER:
            problems = list[SourceError]()
            for path in self._paths:
                position = beginning
                for picture in self._read(path, problems):
                    position = beginning + (picture.position or 0.0)
                    yield Picture(picture.raster, picture.captured, position)
                beginning = position + self._step
            if problems:
                count = f"{len(problems)} of {len(self._paths)} files of {self.name}"
                raise SourceError(f"{count} could not be read: {problems[0]}")
            rounds += 1

    def interrupt(self) -> None:
        if self._clip is not None:
            self._clip.interrupt()

    def _read(self, path: Path, problems: list[SourceError]) -> Iterator[Picture]:
        try:
            if path.suffix.lower() in PICTURES:
                yield _read_picture(path)
            else:
                self._clip = ClipFeed(path)
                for picture in self._clip.pictures():
                    assert not isinstance(picture, Frame)
                    yield picture
        except SourceError as error:
            problems.append(error)


def find_files(pattern: str) -> list[Path]:
    """The pictures and clips that a folder or a pattern such as ``shots/*.jpg`` names, 9 before 10.

    Raises SourceError where there are none.
    """
    if Path(pattern).is_file():
        return [Path(pattern)]
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    if Path(pattern).is_dir():
        names = [str(path) for path in Path(pattern).iterdir()]
    paths = [Path(name) for name in names if Path(name).suffix.lower() in PICTURES | CLIPS]
    if not paths:
        endings = " ".join(sorted(PICTURES | CLIPS))
        name = shorten(mask(pattern))
        raise SourceError(f"no picture and no clip in {name}, expected one of {endings}")
    return sorted(paths, key=_natural_order)


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    """A key by which 9 comes before 10."""
    key = list[tuple[int, int, str]]()
    for part in re.findall(r"\d+|\D+", str(path)):
        number = 0
        if part.isdecimal():
            number = int(part)
        key.append((int(not part.isdecimal()), number, part))
    return key


def _read_picture(path: Path) -> Picture:
    try:
        image = open_picture(path).convert("RGB")
    except ImageError as error:
        raise SourceError(error.problem, error.fix) from error
    except ValueError as error:  # a mode that Pillow does not convert
        raise SourceError(f"{path} cannot be shown: {error}") from error
    return Picture(ArrayRaster(np.asarray(image)), time.monotonic(), 0.0)
