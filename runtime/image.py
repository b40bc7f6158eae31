"""Pictures: opened from whatever the application has, and shrunk as the authors do (PROTOCOL 4)."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.source import open_source, shorten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.context import Grid

    Floats = NDArray[np.float32]

Picture: TypeAlias = (
    "str | PathLike[str] | bytes | bytearray | memoryview | IO[bytes]"
    " | Image.Image | NDArray[np.uint8]"
)
Box: TypeAlias = tuple[int, int, int, int]
Size: TypeAlias = tuple[int, int]  # width and height, as Pillow has it

# Pillow's names. No other reader of it is reached: one of them runs Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")
CHANNELS = (1, 3, 4)
BYTE = 255
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
    """Read a picture from a path, bytes, a binary file, a PIL image or an array.

    An array is (height, width, 3) uint8 in RGB order, or what numpy takes for one; a path may be a
    pipe's. It is the picture as it was given: what is drawn later into the PIL image or the array
    does not show. As in the authors' code an EXIF rotation is ignored, alpha is dropped, of an
    animation the first frame counts, and values above 255 are white.

    Raises ImageError for anything that is not a complete picture.
    """
    if isinstance(source, Image.Image):
        return _load(source, "the PIL image").copy()
    if hasattr(source, "__array__"):
        return _from_array(_as_array(source))
    with open_source(source) as (stream, name):
        return _load(_read_header(stream, name), name)


def _as_array(source: Any) -> NDArray[Any]:
    """``source``, of numpy or another library."""
    try:
        return np.asarray(source)
    except Exception as error:  # of any library
        problem = f"the {type(source).__name__} is not an array: {shorten(str(error))}"
        raise ImageError(problem, "give it as an array of numpy") from error


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        found = shorten(f"{array.dtype} of shape {array.shape}")
        raise ImageError(
            f"the array is not a picture: found {found}, "
            "expected uint8 (height, width, 3) in RGB order",
            _array_fix(array),
        )
    return Image.fromarray(array)  # a copy: Pillow shares no array of three bytes a pixel


def _array_fix(array: NDArray[Any]) -> str:
    """The first thing to do with an array that is almost a picture."""
    if array.ndim == 4:
        return "give one picture: array[0]"
    if array.ndim == 2:
        return "repeat its grey: numpy.stack([array] * 3, axis=2)"
    if array.ndim != 3 or 0 in array.shape:
        return ""
    if array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS:
        return "put the channels last: array.transpose(1, 2, 0)"
    if array.shape[2] == 1:
        return "repeat its grey: array.repeat(3, axis=2)"
    if array.shape[2] == 4:
        return "leave alpha out: array[:, :, :3]"
    return "scale it to 0..255 and round it, then array.astype(numpy.uint8)"


def _read_header(stream: IO[bytes], name: str) -> Image.Image:
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        expected = "expected PNG, JPEG, WebP, TIFF, GIF, BMP or PPM"
        raise ImageError(f"{name} is not a picture: {expected}") from None
    except Exception as error:  # each format's reader raises its own
        problem = f"{name} cannot be read as a picture: {shorten(str(error))}"
        raise ImageError(problem) from error


def _load(picture: Image.Image, name: str) -> Image.Image:
    try:
        picture.load()
    except Exception as error:  # see above
        reason = shorten(str(error)) or type(error).__name__
        raise ImageError(
            f"{name} is damaged: {reason}", "save the picture anew, or open it again"
        ) from error
    if 0 in picture.size:
        raise ImageError(f"{name} has no pixels: {picture.width}x{picture.height}")
    return picture


def hint_at_range(picture: Image.Image) -> str | None:
    """What an application should know of a picture of more than a byte a channel.

    Pillow cuts its values, for the authors too.
    """
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;"):
        return None
    largest = np.asarray(picture).max()
    if largest > BYTE:
        shown = "above 255, which are shown white"
    elif picture.mode == "F" and 0 < largest <= 1:
        shown = "of 1 at most, which are shown black"
    else:
        return None
    return f"a picture has values {shown}, as by the authors' code; scale it to 8 bits a channel"


def regularize(picture: Image.Image, longest_side: int) -> Image.Image:
    """Shrink to ``longest_side`` (NEAREST), make it RGB, stretch sides below 28 (PROTOCOL 4)."""
    shrunk = _shrink(picture.size, longest_side)
    if picture.size != shrunk:
        picture = picture.resize(shrunk, resample=Image.Resampling.NEAREST)
    if picture.mode != "RGB":
        picture = _convert(picture)
    stretched = _stretch(picture.size)
    if picture.size != stretched:
        picture = picture.resize(stretched, resample=Image.Resampling.NEAREST)
    return picture


def _convert(picture: Image.Image) -> Image.Image:
    try:
        return picture.convert("RGB")
    except ValueError as error:
        fix = "convert it to RGB before it is asked about"
        raise ImageError(f"a picture of mode {picture.mode} cannot be shown", fix) from error


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
