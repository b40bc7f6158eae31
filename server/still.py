"""A frame of a source, in the forms in which it is asked for."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from vpt_edge.live.seen import DIGITS, isoformat

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from vpt_edge.live.frame import Frame
    from vpt_edge.runtime.encoded_picture import EncodedPicture
    from vpt_edge.runtime.image import Size

LONGER_SIDE = 1280  # pixels of a view at most
QUALITY = 80


@dataclass(frozen=True)
class View:
    """``frame`` as a JPEG for people; ``size``: width and height of the frame itself, in pixels."""

    frame: Frame
    size: Size
    jpeg: bytes

    def to_dict(self) -> dict[str, Any]:
        """What stands beside the picture, as JSON types."""
        width, height = self.size
        return {
            **describe_frame(self.frame),
            "width": width,
            "height": height,
            "bytes": len(self.jpeg),
        }


def describe_frame(frame: Frame) -> dict[str, Any]:
    """Its number, when it was captured, in UTC, and how many seconds ago that is."""
    return {
        "number": frame.number,
        "time": isoformat(frame.time),
        "age": round(frame.age, DIGITS),
    }


def draw_view(frame: Frame) -> View:
    """Raises SourceError for a frame that cannot be decoded."""
    pixels = frame.raster.to_rgb()  # not those of the frame, which would keep them
    picture = Image.fromarray(pixels)
    size = picture.size
    picture.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY)
    return View(frame, size, stream.getvalue())


class Still:
    """``frame`` as a JPEG, and as a picture that is asked about.

    Each is computed when somebody wants it, once, by ``pool``, for all who do. To be used in the
    event loop.
    """

    def __init__(self, frame: Frame, pool: Executor) -> None:
        self.frame = frame
        self._pool = pool
        self._view: asyncio.Future[View] | None = None
        self._picture: asyncio.Future[EncodedPicture] | None = None

    async def view(self) -> View:
        """Raises SourceError for a frame that cannot be decoded."""
        if self._view is None:
            loop = asyncio.get_running_loop()
            self._view = loop.run_in_executor(self._pool, draw_view, self.frame)
        return await asyncio.shield(self._view)  # others may wait for it too

    async def picture(self, encode: Callable[[Any], EncodedPicture]) -> EncodedPicture:
        """What ``encode`` makes of its pixels, (height, width, 3) uint8 RGB, the first time.

        Raises SourceError as ``view`` does, and what ``encode`` raises.
        """

        def open_frame() -> EncodedPicture:
            return encode(self.frame.raster.to_rgb())

        if self._picture is None:
            loop = asyncio.get_running_loop()
            self._picture = loop.run_in_executor(self._pool, open_frame)
        return await asyncio.shield(self._picture)

    def forget_picture(self) -> None:
        """Let what was encoded go, when the last question about it is answered."""
        self._picture = None
