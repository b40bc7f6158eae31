"""Pictures: opened from whatever the application has, and shrunk as the authors do (PROTOCOL 4)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from vpt_edge.runtime.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.context import Grid

    Floats = NDArray[np.float32]

Picture: TypeAlias = "str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8]"
Box: TypeAlias = tuple[int, int, int, int]
Size: TypeAlias = tuple[int, int]  # width and height, as Pillow has it

MIN_SIDE = 28
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Patches:
    """A picture as a vision encoder takes it.

    ``values`` (frames * rows * columns, width of a patch) float32 in merge order, ``grid``
    (frames, rows, columns) of patches.
    """

    values: Floats
    grid: Grid


def open_picture(source: Picture) -> Image.Image:
    """Read a picture from a path, bytes, a PIL image or an RGB array (height, width, 3) uint8.

    It is the picture as it was given: what is drawn later into the PIL image or the array does not
    show. As in the authors' code an EXIF rotation is ignored, alpha is dropped and of an animation
    the first frame counts. Raises ImageError for anything that is not a complete picture.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _load(source, "the PIL image").copy()
    if isinstance(source, bytes):
        return _decode(source, f"{len(source)} bytes")
    path = Path(source)
    if path.is_dir():
        raise ImageError(f"no picture at {path}: it is a folder")
    if not path.is_file():
        raise ImageError(f"no picture at {path}: the file is missing")
    return _decode(path.read_bytes(), str(path))


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(
            f"the array is not a picture: found {array.dtype} of shape {array.shape}, "
            "expected uint8 (height, width, 3) in RGB order"
        )
    return Image.fromarray(array)  # a copy: Pillow shares no array of three bytes a pixel


def _decode(data: bytes, name: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        expected = "expected PNG, JPEG, WebP, TIFF, GIF or BMP"
        raise ImageError(f"{name} is not a picture: {expected}") from None
    except Exception as error:  # each format's reader raises its own
        raise ImageError(f"{name} cannot be read as a picture: {error}") from error
    return _load(picture, name)


def _load(picture: Image.Image, name: str) -> Image.Image:
    try:
        picture.load()
    except Exception as error:  # see above
        raise ImageError(f"{name} is damaged: {error}", "save the picture anew") from error
    if 0 in picture.size:
        raise ImageError(f"{name} has no pixels: {picture.width}x{picture.height}")
    return picture


def regularize(picture: Image.Image, longest_side: int) -> Image.Image:
    """Shrink to ``longest_side`` (NEAREST), make it RGB, stretch sides below 28 (PROTOCOL 4)."""
    shrunk = _shrink(picture.size, longest_side)
    if picture.size != shrunk:
        picture = picture.resize(shrunk, resample=Image.Resampling.NEAREST)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    stretched = _stretch(picture.size)
    if picture.size != stretched:
        picture = picture.resize(stretched, resample=Image.Resampling.NEAREST)
    return picture


def regularized_size(size: Size, longest_side: int) -> Size:
    """What ``regularize`` makes of a picture of ``size``. Raises ImageError as it does."""
    return _stretch(_shrink(size, longest_side))


def _shrink(size: Size, longest_side: int) -> Size:
    width, height = size
    if max(width, height) <= longest_side:
        return size
    factor = longest_side / max(width, height)
    shrunk = (int(width * factor), int(height * factor))
    if 0 in shrunk:
        raise ImageError(
            f"a picture of {width}x{height} pixels is too thin: shrunk to {longest_side} on "
            f"its longest side it is {shrunk[0]}x{shrunk[1]}",
            f"crop it to an aspect ratio below {longest_side}",
        )
    return shrunk


def _stretch(size: Size) -> Size:
    width, height = size
    return max(width, MIN_SIDE), max(height, MIN_SIDE)


def imagenet_planes(pixels: NDArray[np.uint8]) -> Floats:
    """(height, width, 3) uint8 -> (3, height, width) float32, by ImageNet's mean and deviation."""
    tables = normalized_bytes(IMAGENET_MEAN, IMAGENET_STD)
    return np.stack([table[pixels[..., channel]] for channel, table in enumerate(tables)])


def normalized_bytes(mean: tuple[float, ...], std: tuple[float, ...]) -> Floats:
    """(3, 256) float32: what each byte of each channel becomes.

    A table gives the reference's bits and costs little.
    """
    scaled = (np.arange(256) * (1 / 255)).astype(np.float32)
    return (scaled - np.asarray(mean, np.float32)[:, None]) / np.asarray(std, np.float32)[:, None]
