"""What a source shows, with its answers drawn in, as a file."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.live.frame import Frame
from vpt_edge.live.overlay import Overlay
from vpt_edge.live.seen import Seen
from vpt_edge.live.sinks.mp4 import Mp4
from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.files import check_file

if TYPE_CHECKING:
    from vpt_edge.live.sinks.sink import Item

ROUNDING = 1e-6  # seconds


class Video:
    """Writes the frames of ``source``, at most ``rate`` a second or all, into the mp4 ``path``.

    It takes the place of an older one with the first frame. Raises SinkError and VptError for a
    place where it cannot be, and without PyAV.
    """

    wants = (Frame, Seen)
    dropped = 0

    def __init__(
        self, path: str | os.PathLike[str], source: str, rate: float | None = None
    ) -> None:
        self._path = Path(path)
        self._source = source
        self._rate = rate
        self._overlay = Overlay()
        self._mp4: Mp4 | None = None
        self._tick = -1
        if self._path.suffix.lower() != ".mp4":
            raise SinkError(f"cannot write {path}: expected a name that ends with .mp4")
        check_file(path)
        if self._path.exists() and not os.access(self._path, os.W_OK):
            raise SinkError(f"cannot write {path}: no permission", "choose another name")
        if importlib.util.find_spec("av") is None:
            raise SinkError("a video needs PyAV", "pip install 'vpt-edge[live]'")

    def put(self, item: Item) -> None:
        if isinstance(item, Seen) and item.frame.source == self._source:
            self._overlay.add(item)
        if isinstance(item, Frame) and item.source == self._source and self._is_due(item):
            self._write(item)

    def _is_due(self, frame: Frame) -> bool:
        if self._rate is None:
            return True
        tick = int((frame.position + ROUNDING) * self._rate)
        is_due = tick != self._tick
        self._tick = tick
        return is_due

    def _write(self, frame: Frame) -> None:
        picture = self._overlay.draw(frame)
        if self._mp4 is None:
            self._mp4 = Mp4(self._path, picture.size)
        self._mp4.write(picture, frame.position)

    def close(self) -> None:
        if self._mp4 is not None:
            self._mp4.close()
