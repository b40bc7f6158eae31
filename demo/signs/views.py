"""What the network sees of a scene: the first view, and the crop of a look."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from signs.sizes import VIEW

from vpt_edge.live.scenes import GRID
from vpt_edge.live.signs.geometry import glyph_lines
from vpt_edge.runtime.image import regularized_size
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.live.signs.painter import Painter
    from vpt_edge.live.signs.sign import Sign

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float64]
    Cell = tuple[int, int]

LIMITS = ImageConfig(VIEW, PROCESSOR.min_pixels, PROCESSOR.max_pixels)
REACH = 3  # cells a side of the crop that a look at an inner cell gives


def view_first(painter: Painter, side: int) -> Bytes:
    """(224, 224, 3): the whole picture of ``side`` pixels, as the encoder is shown it."""
    return _show(painter, side, (0, 0), side)


def view_crop(painter: Painter, side: int, cell: Cell) -> Bytes:
    """(224, 224, 3), or 196 of a small picture: the cells around an inner one."""
    width = side // GRID
    corner = ((cell[0] - 1) * width, (cell[1] - 1) * width)
    return _show(painter, side, corner, REACH * width)


def _show(painter: Painter, side: int, corner: Cell, width: int) -> Bytes:
    """``Processor.preprocess`` of that square, painting no more than the pixels that it takes."""
    shrunk, _ = regularized_size((width, width), VIEW)
    places = _sample(width, shrunk)
    left, top = corner
    pixels = painter.pixels(places + top, places + left)
    shown = PROCESSOR.shown_size((width, width), LIMITS)
    if shown == (shrunk, shrunk):
        return pixels
    return np.array(Image.fromarray(pixels).resize(shown, Image.Resampling.BICUBIC))


@functools.lru_cache(maxsize=64)
def _sample(width: int, shrunk: int) -> NDArray[np.int32]:
    """The places of ``width`` pixels that Pillow takes, with its own rounding."""
    every = Image.fromarray(np.arange(width, dtype=np.int32)[None])
    return np.asarray(every.resize((shrunk, 1), Image.Resampling.NEAREST))[0]


def place_letters(sign: Sign, cell: Cell, shown: int) -> Floats:
    """(characters, 2): the middle of each in the crop around ``cell``, of ``shown`` pixels a side.

    It may lie outside of it.
    """
    centres = glyph_lines(sign).mean(1)
    return (centres - (np.array(cell) - 1)) * shown / REACH
