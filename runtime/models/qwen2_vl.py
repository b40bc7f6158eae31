"""Qwen2-VL's tower: the processor's resize, patches in merge order, M-RoPE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

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
from vpt_edge.runtime.interface import check_graph, expect, floats
from vpt_edge.runtime.manifest import read_block
from vpt_edge.runtime.positions import mrope, mrope_positions, vision_rope
from vpt_edge.runtime.schema import Range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vpt_edge.runtime.context import Grid, Visual
    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import ImageConfig, Manifest, Tensor

    Floats = NDArray[np.float32]

PATCH = 14
MERGE = 2
FRAMES = 2
FACTOR = PATCH * MERGE
PATCH_WIDTH = 3 * FRAMES * PATCH**2  # channels, frames, rows, columns
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SPLIT = (  # of text into words, before the tokenizer's merges
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Qwen2VLConfig:
    """The manifest's block ``model``. ``head_dim``: of the vision tower's attention."""

    head_dim: Annotated[int, Range(1, 1 << 16)]


class Qwen2VL:
    """See ``runtime.models.Tower``."""

    patch = PATCH

    def __init__(self, manifest: Manifest) -> None:
        self._config: Qwen2VLConfig = read_block(Qwen2VLConfig, manifest.model, "model")
        self._text = manifest.text
        _check_vision(manifest, self._config.head_dim)

    def preprocess(self, picture: Image.Image, limits: ImageConfig) -> Patches:
        return preprocess(picture, limits)

    def grid(self, size: Size, limits: ImageConfig) -> Grid:
        width, height = shown_size(size, limits)
        return 1, height // PATCH, width // PATCH

    def tokens(self, grid: Grid) -> int:
        frames, rows, columns = grid
        return frames * rows * columns // MERGE**2

    def inputs(self, patches: Patches) -> Mapping[str, Floats]:
        """``patches`` (1, patches, 1176); ``cos``, ``sin`` (patches, head_dim / 2)."""
        _, rows, columns = patches.grid
        cos, sin = vision_rope(rows, columns, MERGE, self._config.head_dim)
        return {"patches": patches.values[None], "cos": cos, "sin": sin}

    def positions(self, length: int, visuals: Sequence[Visual]) -> NDArray[np.int64]:
        return mrope_positions(length, visuals, MERGE)

    def rotations(self, positions: NDArray[np.int64]) -> tuple[Floats, Floats]:
        text = self._text
        return mrope(positions, text.head_dim, text.rope_theta, text.mrope_section)


def vision_tensors(head_dim: int, hidden_size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the graph ``vision_encoder``."""
    half = head_dim // 2
    inputs = [floats("patches", 1, "patches", PATCH_WIDTH)]
    inputs += [floats("cos", "patches", half), floats("sin", "patches", half)]
    return inputs, [floats("features", 1, "tokens", hidden_size)]


def _check_vision(manifest: Manifest, head_dim: int) -> None:
    """Raise BundleError where the graph and the limits are not those of this tower."""
    expect(head_dim % 4 == 0, f"model: head_dim is {head_dim}, expected a multiple of 4")
    most = manifest.image.max_pixels
    expect(most >= FACTOR**2, f"image: max_pixels is {most}, expected at least {FACTOR**2}")
    inputs, outputs = vision_tensors(head_dim, manifest.text.hidden_size)
    check_graph(manifest, "vision_encoder", inputs, outputs)


def preprocess(picture: Image.Image, limits: ImageConfig) -> Patches:
    """What Qwen2-VL's vision encoder sees of ``picture`` (PROTOCOL 4).

    Values (rows * columns, 1176) float32 in merge order; a patch is channels, frames, rows,
    columns. Raises ImageError for a picture that is too thin, or does not fit into ``max_pixels``.
    """
    size = shown_size(picture.size, limits)
    picture = regularize(picture, limits.longest_side).resize(size, Image.Resampling.BICUBIC)
    rows = picture.height // PATCH
    columns = picture.width // PATCH
    merged = (rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3)
    pixels = np.asarray(picture).reshape(merged).transpose(0, 3, 1, 4, 6, 2, 5)
    pixels = pixels.reshape(rows * columns, 3, PATCH * PATCH)
    values = np.empty((rows * columns, 3, FRAMES, PATCH * PATCH), np.float32)
    for channel, table in enumerate(normalized_bytes(MEAN, STD)):
        values[:, channel] = table[pixels[:, channel]][:, None]  # one frame, duplicated in time
    return Patches(values.reshape(rows * columns, -1), (1, rows, columns))


def shown_size(size: Size, limits: ImageConfig) -> Size:
    """The pixels, (width, height), in which the encoder sees a picture of ``size``."""
    width, height = regularized_size(size, limits.longest_side)
    return smart_resize(width, height, limits.min_pixels, limits.max_pixels)


def smart_resize(width: int, height: int, min_pixels: int, max_pixels: int) -> Size:
    """Qwen2-VL's size, (width, height): multiples of 28 by banker's rounding, within the limits."""
    new_width = round(width / FACTOR) * FACTOR
    new_height = round(height / FACTOR) * FACTOR
    if new_width * new_height > max_pixels:
        beta = math.sqrt(width * height / max_pixels)
        new_width = math.floor(width / beta / FACTOR) * FACTOR
        new_height = math.floor(height / beta / FACTOR) * FACTOR
    elif new_width * new_height < min_pixels:
        beta = math.sqrt(min_pixels / (width * height))
        new_width = math.ceil(width * beta / FACTOR) * FACTOR
        new_height = math.ceil(height * beta / FACTOR) * FACTOR
    if 0 in (new_width, new_height):
        raise ImageError(
            f"a picture of {width}x{height} pixels does not fit into max_pixels {max_pixels}",
            "crop it",
        )
    return new_width, new_height


def most_tokens(limits: ImageConfig) -> int:
    """No picture or crop takes more visual tokens than this."""
    side = max(limits.longest_side, MIN_SIDE)
    ratio = side / MIN_SIDE
    rounded = min(round(side / FACTOR) ** 2, limits.max_pixels // FACTOR**2)
    # What is enlarged to min_pixels has each side rounded up.
    long = math.sqrt(limits.min_pixels * ratio) / FACTOR + 1
    short = math.sqrt(limits.min_pixels / ratio) / FACTOR + 1
    return max(rounded, int(long * short))
