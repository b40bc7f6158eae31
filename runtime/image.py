"""The authors' image preprocessing, bit for bit (PROTOCOL 4): open, crop, shrink, resize,
normalise, patchify."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from vpt_edge.runtime.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.bundle import ImageLimits

Picture: TypeAlias = "str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8]"
Box: TypeAlias = tuple[int, int, int, int]

MIN_SIDE = 28
PATCH, MERGE, FRAMES = 14, 2, 2
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class View:
    """A picture as the vision encoder takes it.

    ``patches`` (rows * columns, 1176) float32 in merge order, ``grid`` (rows, columns) of patches;
    four neighbouring patches become one visual token."""

    patches: NDArray[np.float32]
    grid: tuple[int, int]

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] // MERGE**2


def open_picture(source: Picture) -> Image.Image:
    """Read a picture from a path, bytes, a PIL image or an RGB array (height, width, 3) uint8.

    It is the picture as it was given: what is drawn later into the PIL image or the array does not
    show. As in the authors' code an EXIF rotation is ignored, alpha is dropped and of an animation
    the first frame counts. Raises ImageError for anything that is no complete picture."""
    if isinstance(source, np.ndarray):
        if (
            source.dtype != np.uint8
            or source.ndim != 3
            or source.shape[2] != 3
            or 0 in source.shape
        ):
            found = f"{source.dtype} of shape {source.shape}"
            raise ImageError(
                f"the array is no picture: found {found}, expected uint8 (height, width, 3) in RGB order"
            )
        return Image.fromarray(source)  # a copy: Pillow shares no array of three bytes a pixel
    if isinstance(source, Image.Image):
        return _loaded(source, "the PIL image").copy()
    if isinstance(source, bytes):
        stream, name = io.BytesIO(source), f"{len(source)} bytes"
    else:
        path = Path(source)
        if not path.is_file():
            raise ImageError(
                f"no picture at {path}: {'it is a folder' if path.is_dir() else 'the file is missing'}"
            )
        stream, name = io.BytesIO(path.read_bytes()), str(path)
    try:
        picture = Image.open(stream)
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is no picture: expected PNG, JPEG, WebP, TIFF, GIF or BMP"
        ) from None
    except Exception as error:  # each format's reader raises its own
        raise ImageError(f"{name} cannot be read as a picture: {error}") from error
    return _loaded(picture, name)


def _loaded(picture: Image.Image, name: str) -> Image.Image:
    try:
        picture.load()
    except Exception as error:  # see above
        raise ImageError(f"{name} is damaged: {error}; save the picture anew") from error
    if 0 in picture.size:
        raise ImageError(f"{name} has no pixels: {picture.width}x{picture.height}")
    return picture


def regularize(picture: Image.Image, limit: int) -> Image.Image:
    """Shrink to ``limit`` on the longest side (NEAREST), make it RGB, stretch sides below 28
    (PROTOCOL 4)."""
    width, height = picture.size
    if max(width, height) > limit:
        factor = limit / max(width, height)
        size = int(width * factor), int(height * factor)
        if 0 in size:
            raise ImageError(
                f"a picture of {width}x{height} pixels is too thin: shrunk to {limit} on its longest side it is "
                f"{size[0]}x{size[1]}; crop it to an aspect ratio below {limit}"
            )
        picture = picture.resize(size, resample=Image.Resampling.NEAREST)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    width, height = picture.size
    if min(width, height) < MIN_SIDE:
        size = max(width, MIN_SIDE), max(height, MIN_SIDE)
        picture = picture.resize(size, resample=Image.Resampling.NEAREST)
    return picture


def smart_resize(width: int, height: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Qwen2-VL's size, (width, height): multiples of 28 by banker's rounding, within the limits of
    pixels."""
    factor = PATCH * MERGE
    new_width, new_height = round(width / factor) * factor, round(height / factor) * factor
    if new_width * new_height > max_pixels:
        beta = math.sqrt(width * height / max_pixels)
        new_width, new_height = (
            math.floor(side / beta / factor) * factor for side in (width, height)
        )
    elif new_width * new_height < min_pixels:
        beta = math.sqrt(min_pixels / (width * height))
        new_width, new_height = (
            math.ceil(side * beta / factor) * factor for side in (width, height)
        )
    if 0 in (new_width, new_height):
        raise ImageError(
            f"a picture of {width}x{height} pixels does not fit into max_pixels {max_pixels}; crop it"
        )
    return new_width, new_height


def most_tokens(limits: ImageLimits) -> int:
    """No picture or crop takes more visual tokens than this."""
    factor = PATCH * MERGE
    side, ratio = max(limits.limit, MIN_SIDE), max(limits.limit, MIN_SIDE) / MIN_SIDE
    rounded = min(round(side / factor) ** 2, limits.max_pixels // factor**2)
    long, short = (
        math.sqrt(limits.min_pixels * ratio) / factor + 1,
        math.sqrt(limits.min_pixels / ratio) / factor + 1,
    )
    return max(
        rounded, int(long * short)
    )  # the latter is what is enlarged to min_pixels, each side rounded up


def view(picture: Image.Image, limit: int, min_pixels: int, max_pixels: int) -> View:
    """What Qwen2-VL's vision encoder sees of ``picture``."""
    picture = regularize(picture, limit)
    picture = picture.resize(
        smart_resize(*picture.size, min_pixels, max_pixels), Image.Resampling.BICUBIC
    )
    width, height = picture.size
    rows, columns = height // PATCH, width // PATCH
    pixels = np.asarray(picture).reshape(
        rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3
    )
    pixels = pixels.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, PATCH * PATCH)
    patches = np.empty((rows * columns, 3, FRAMES, PATCH * PATCH), np.float32)
    for channel, values in enumerate(_normalised(CLIP_MEAN, CLIP_STD)):
        patches[:, channel] = values[pixels[:, channel]][:, None]  # one frame, duplicated in time
    return View(patches.reshape(rows * columns, -1), (rows, columns))


def detection_pixels(picture: Image.Image, limit: int) -> NDArray[np.float32]:
    """What DINOv2 sees: shortest side 256, the central 224x224, (1, 3, 224, 224) float32."""
    picture = regularize(picture, limit)
    short, long = sorted(picture.size)
    size = tuple(256 if side == short else int(256 * long / short) for side in picture.size)
    picture = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    return _planes(np.asarray(picture)[top : top + 224, left : left + 224])[None]


def seg_pixels(picture: Image.Image, limit: int) -> NDArray[np.float32]:
    """What SAM sees: longest side 1024, zeros right and below, (1, 3, 1024, 1024) float32."""
    picture = regularize(picture, limit)
    scale = 1024 / max(picture.size)
    width, height = (int(side * scale + 0.5) for side in picture.size)
    padded = np.zeros((1, 3, 1024, 1024), np.float32)
    padded[0, :, :height, :width] = _planes(
        np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    )
    return padded


def _planes(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(height, width, 3) uint8 -> (3, height, width) float32, ImageNet's mean and deviation."""
    values = _normalised(IMAGENET_MEAN, IMAGENET_STD)
    return np.stack([channel[pixels[..., index]] for index, channel in enumerate(values)])


def _normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """(3, 256): what each byte of each channel becomes.

    A table gives the reference's bits and costs little.
    """
    scaled = (np.arange(256) * (1 / 255)).astype(np.float32)
    return (scaled - np.asarray(mean, np.float32)[:, None]) / np.asarray(std, np.float32)[:, None]
