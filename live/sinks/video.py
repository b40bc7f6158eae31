"""What a source shows, with its answers drawn in, as a file."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.live.frame import Frame
from vpt_edge.live.sinks.mp4 import Mp4
from vpt_edge.live.sinks.painter import Painter
from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.files import check_file

if TYPE_CHECKING:
    from vpt_edge.live.sinks.sink import Item


class Video:
    """Writes the frames of ``source``, at most ``rate`` a second or all, into the mp4 ``path``.

    It takes the place of an older one with the first frame. Raises SinkError and VptError for a
    place where it cannot be, and without PyAV.
    """

    wants = Painter.wants
    dropped = 0

    def __init__(
        self, path: str | os.PathLike[str], source: str, rate: float | None = None
    ) -> None:
        self._path = Path(path)
        self._painter = Painter(source, rate)
        self._mp4: Mp4 | None = None
        if self._path.suffix.lower() != ".mp4":
            raise SinkError(f"cannot write {path}: expected a name that ends with .mp4")
        check_file(path)
        if self._path.exists() and not os.access(self._path, os.W_OK):
            raise SinkError(f"cannot write {path}: no permission", "choose another name")
        if importlib.util.find_spec("av") is None:
            raise SinkError("a video needs PyAV", "pip install 'vpt-edge[live]'")

    def put(self, item: Item) -> None:
        picture = self._painter.paint(item)
        if picture is None or not isinstance(item, Frame):
            return
        if self._mp4 is None:
            self._mp4 = Mp4(self._path, picture.size)
        self._mp4.write(picture, item.position)

    def close(self) -> None:
        if self._mp4 is not None:
            self._mp4.close()
