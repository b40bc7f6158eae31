"""Pictures as a client sends them, and as people see them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.image import open_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.queue import EventStream
    from vpt_edge.server.picture_cache import PictureCache

# Chromium turns these by their EXIF, and no WebP; XMP turns none. The boxes of an answer
# must lie on the picture that a page shows. MPO: what some phones write as JPEG.
TURNED = ("JPEG", "MPO", "PNG")
# What turns a picture upright, by EXIF's number of how the camera was held.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureFiles:
    """The ``files`` of pictures, which are decoded when it is their turn: the pictures of those
    that wait take no more memory than their files.
    """

    def __init__(self, files: Sequence[bytes], cache: PictureCache, pipeline: Pipeline) -> None:
        self._files = files
        self._cache = cache
        self._pipeline = pipeline

    def stream(self, question: str, **options: Unpack[AskOptions]) -> EventStream:
        """As ``EncodedPicture.stream``. Raises ImageError for a picture that is damaged."""
        pictures = [self._cache.get(data) for data in self._files]
        return self._pipeline.stream(pictures, question, **options)


class PictureTooLargeError(ImageError):
    """The picture has more pixels than the server takes."""


class _HeaderReadError(ImageError):
    """Ends the reading of a picture whose header is in order."""


def check_headers(files: Sequence[bytes], limit: int) -> None:
    """Raise ImageError unless ``files`` begin as pictures of at most ``limit`` pixels together.

    No pixel is read.
    """
    pixels = 0

    def check(size: Size) -> None:
        nonlocal pixels
        check_pixels(size, limit)
        pixels += size[0] * size[1]
        raise _HeaderReadError("")

    for data in files:
        with contextlib.suppress(_HeaderReadError):
            open_picture(data, check)
        if pixels > limit:
            problem = f"the pictures have more than {limit} pixels together"
            raise PictureTooLargeError(problem, "shrink them, or send fewer")


def open_upright(data: bytes, limit: int) -> Image.Image:
    """The picture in ``data`` as a browser shows it: turned as its EXIF says.

    Only what its pixels need is kept of the file. Raises ImageError for what is not a whole
    picture, or has more than ``limit`` pixels.
    """
    picture = open_picture(data, lambda size: check_pixels(size, limit))
    turn = TURNS.get(_orientation(picture))
    upright = picture.copy() if turn is None else picture.transpose(turn)
    transparency = upright.info.get("transparency")
    upright.info = {}
    if transparency is not None:  # of a palette, which is converted by it
        upright.info["transparency"] = transparency
    return upright


def _orientation(picture: Image.Image) -> int:
    """EXIF's number; 1, upright, where there is none that can be read."""
    if picture.format not in TURNED:
        return 1
    try:
        exif = Image.Exif()
        exif.load(picture.info.get("exif", b""))
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # of data that may be anything: browsers pass it over, too
        return 1


def check_pixels(size: Size, limit: int) -> None:
    """Raise PictureTooLargeError for a picture of ``size`` (width, height) with too many pixels."""
    width, height = size
    if width * height > limit:
        problem = f"the picture has {width}x{height} pixels, expected up to {limit}"
        raise PictureTooLargeError(problem, "shrink it")
