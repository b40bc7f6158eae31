"""Qwen's image processor: the size in which a picture is shown, and its patches in merge order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.image import (
    MIN_SIDE,
    Patches,
    normalized_bytes,
    regularize,
    regularized_size,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.context import Grid
    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import ImageConfig

MERGE = 2  # patches a side that become one visual token
FRAMES = 2  # of a patch: a picture is both
THINNEST = 200  # the largest aspect ratio that transformers shows


@dataclass(frozen=True)
class Processor:
    """The processor of one family: ``patch`` is the side of a patch in pixels, ``mean`` and ``std``
    are of each channel, for values from 0 to 1. ``min_pixels`` and ``max_pixels`` of a picture are
    those of a checkpoint that says nothing of them.
    """

    patch: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    min_pixels: int
    max_pixels: int

    @property
    def factor(self) -> int:
        """Pixels a side of one visual token."""
        return self.patch * MERGE

    @property
    def patch_width(self) -> int:
        """Numbers of a patch: channels, frames, rows, columns."""
        return 3 * FRAMES * self.patch**2

    def preprocess(
        self, picture: Image.Image, limits: ImageConfig, later: Image.Image | None = None
    ) -> Patches:
        """What the vision encoder sees of ``picture`` (PROTOCOL 4).

        ``later``: of two frames of a scene the second one, of the same size; each patch holds both.
        Values (rows * columns, patch_width) float32 in merge order. Raises ImageError for a picture
        that is too thin, or does not fit into ``max_pixels``.
        """
        grid = self.grid(picture.size, limits)
        _, rows, columns = grid
        values = np.empty((rows * columns, 3, FRAMES, self.patch**2), np.float32)
        tables = normalized_bytes(self.mean, self.std)
        pixels = self._cut(picture, limits)
        for channel, table in enumerate(tables):
            values[:, channel] = table[pixels[:, channel]][:, None]  # duplicated in time
        if later is not None:
            pixels = self._cut(later, limits)
            for channel, table in enumerate(tables):
                values[:, channel, 1] = table[pixels[:, channel]]
        return Patches(values.reshape(rows * columns, -1), grid)

    def _cut(self, picture: Image.Image, limits: ImageConfig) -> NDArray[np.uint8]:
        """The patches of ``picture`` as it is shown: (rows * columns, 3, pixels of a patch)."""
        size = self.shown_size(picture.size, limits)
        picture = regularize(picture, limits.longest_side)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        rows = picture.height // self.patch
        columns = picture.width // self.patch
        merged = (rows // MERGE, MERGE, self.patch, columns // MERGE, MERGE, self.patch, 3)
        pixels = np.asarray(picture).reshape(merged).transpose(0, 3, 1, 4, 6, 2, 5)
        return pixels.reshape(rows * columns, 3, self.patch**2)

    def shown_size(self, size: Size, limits: ImageConfig) -> Size:
        """The pixels, (width, height), in which the encoder sees a picture of ``size``."""
        width, height = regularized_size(size, limits.longest_side)
        if limits.longest_side is None:
            _check_aspect(size)
        return self.smart_resize(width, height, limits)

    def smart_resize(self, width: int, height: int, limits: ImageConfig) -> Size:
        """Multiples of ``factor`` by banker's rounding, within the limits.

        What is shrunk keeps a row and a column of visual tokens, as in transformers 5; with a first
        shrink, which is of an older version, it does not. Raises ImageError for a side of none.
        """
        factor = self.factor
        least = factor if limits.longest_side is None else 0
        new_width = round(width / factor) * factor
        new_height = round(height / factor) * factor
        if new_width * new_height > limits.max_pixels:
            beta = math.sqrt(width * height / limits.max_pixels)
            new_width = max(least, math.floor(width / beta / factor) * factor)
            new_height = max(least, math.floor(height / beta / factor) * factor)
        elif new_width * new_height < limits.min_pixels:
            beta = math.sqrt(limits.min_pixels / (width * height))
            new_width = math.ceil(width * beta / factor) * factor
            new_height = math.ceil(height * beta / factor) * factor
        if 0 in (new_width, new_height):
            raise ImageError(
                f"a picture of {width}x{height} pixels does not fit into max_pixels "
                f"{limits.max_pixels}",
                "crop it",
            )
        return new_width, new_height

    def grid(self, size: Size, limits: ImageConfig) -> Grid:
        """The grid of patches of a picture of ``size``. Raises ImageError as ``preprocess``."""
        width, height = self.shown_size(size, limits)
        return 1, height // self.patch, width // self.patch

    def most_tokens(self, limits: ImageConfig) -> int:
        """No picture or crop takes more visual tokens than this."""
        factor = self.factor
        most = limits.max_pixels // factor**2
        ratio = float(THINNEST)
        thin = math.isqrt(THINNEST * limits.max_pixels) // factor  # one row of them
        if limits.longest_side is not None:
            side = max(limits.longest_side, MIN_SIDE)
            ratio = side / MIN_SIDE
            most = min(round(side / factor) ** 2, most)
            thin = 0
        # What is enlarged to min_pixels has each side rounded up.
        long = math.sqrt(limits.min_pixels * ratio) / factor + 1
        short = math.sqrt(limits.min_pixels / ratio) / factor + 1
        return max(most, thin, int(long * short))


def tokens(grid: Grid) -> int:
    """How many visual tokens the patches of ``grid`` become."""
    frames, rows, columns = grid
    return frames * rows * columns // MERGE**2


def _check_aspect(size: Size) -> None:
    width, height = size
    if 0 in size:
        raise ImageError(f"a picture of {width}x{height} has no pixels", "crop more of it")
    ratio = max(size) / min(size)
    if ratio > THINNEST:
        raise ImageError(
            f"a picture of {width}x{height} pixels is too thin: its aspect ratio is {ratio:.0f}, "
            f"expected {THINNEST} at most",
            "crop it",
        )
