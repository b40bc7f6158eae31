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
    from collections.abc import Callable

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


def open_picture(source: Picture, check: Callable[[Size], object] | None = None) -> Image.Image:
    """Read a picture from a path, bytes, a binary file, a PIL image or an array.

    An array is (height, width, 3) uint8 in RGB order, or what numpy takes for one; a path may be a
    pipe's. It is the picture as it was given: what is drawn later into the PIL image or the array
    does not show. As in the authors' code an EXIF rotation is ignored, alpha is dropped, of an
    animation the first frame counts, and values above 255 are white.

    Whatever it is given as, it has at most as many pixels as Pillow reads of a file: twice
    ``PIL.Image.MAX_IMAGE_PIXELS``, 178,956,970 unless the application sets another number; None is
    no limit. That, and what ``check`` has against its size, is said before a pixel is read.

    Raises ImageError for anything that is not a complete picture.
    """

    def check_size(name: str, size: Size) -> None:
        _check_size(name, size)
        if check is not None:
            check(size)

    try:
        return _open(source, check_size)
    except ImageError:
        raise
    except Exception as error:  # of any object of an application
        problem = f"the {type(source).__name__} cannot be read as a picture: {_reason(error)}"
        raise ImageError(problem, "give it as a file, or as an array of numpy") from error


def _open(source: Any, check_size: Callable[[str, Size], None]) -> Image.Image:
    if isinstance(source, Image.Image):
        name = "the PIL image"
        check_size(name, source.size)
        return _load(source, name).copy()
    is_name = isinstance(source, str | bytes)  # numpy has a kind of each, which it takes for arrays
    if not is_name and hasattr(source, "__array__"):
        array = np.asarray(source)
        _check_array(array)
        check_size("the array", (array.shape[1], array.shape[0]))
        return Image.fromarray(array)  # a copy: Pillow shares no array of three bytes a pixel
    with open_source(source) as (stream, name):
        picture = _read_header(stream, name)
        check_size(name, picture.size)
        return _load(picture, name)


def _check_size(name: str, size: Size) -> None:
    """Raise ImageError for a picture without pixels, and one of a size that Pillow would not read
    from a file.
    """
    if 0 in size:
        raise ImageError(f"{name} has no pixels: {size[0]}x{size[1]}")
    limit = _most_pixels()
    if limit is not None and size[0] * size[1] > limit:
        raise _too_large(f"{name} of {size[0]}x{size[1]}")


def _most_pixels() -> int | None:
    if Image.MAX_IMAGE_PIXELS is None:
        return None
    return 2 * Image.MAX_IMAGE_PIXELS


def _too_large(name: str) -> ImageError:
    problem = f"{name} has more than {_most_pixels()} pixels"
    return ImageError(problem, "shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS")


def _reason(error: Exception) -> str:
    """What a library says on one line; some say nothing."""
    return shorten(str(error)) or type(error).__name__


def _check_array(array: NDArray[Any]) -> None:
    """Raise ImageError unless ``array`` is (height, width, 3) uint8."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        found = shorten(f"{array.dtype} of shape {array.shape}")
        raise ImageError(
            f"the array is not a picture: found {found}, "
            "expected uint8 (height, width, 3) in RGB order",
            _array_fix(array),
        )


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
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except Exception as error:  # each format's reader raises its own
        raise ImageError(f"{name} cannot be read as a picture: {_reason(error)}") from error


def _load(picture: Image.Image, name: str) -> Image.Image:
    try:
        picture.load()
    except MemoryError as error:
        problem = f"{name} does not fit into memory: {picture.width}x{picture.height} pixels"
        raise ImageError(problem, "shrink it") from error
    except Exception as error:  # see above
        raise ImageError(
            f"{name} is damaged: {_reason(error)}", "save the picture anew, or open it again"
        ) from error
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


def regularize(picture: Image.Image, longest_side: int | None) -> Image.Image:
    """Shrink to ``longest_side`` (NEAREST), make it RGB, stretch sides below 28 (PROTOCOL 4).

    Without a ``longest_side`` it is made RGB alone, as transformers does.
    """
    if longest_side is None:
        return _convert(picture)
    shrunk = _shrink(picture.size, longest_side)
    if picture.size != shrunk:
        picture = picture.resize(shrunk, resample=Image.Resampling.NEAREST)
    picture = _convert(picture)
    stretched = _stretch(picture.size)
    if picture.size != stretched:
        picture = picture.resize(stretched, resample=Image.Resampling.NEAREST)
    return picture


def _convert(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    try:
        return picture.convert("RGB")
    except ValueError as error:
        fix = "convert it to RGB before it is asked about"
        raise ImageError(f"a picture of mode {picture.mode} cannot be shown", fix) from error


def resize(picture: Image.Image, size: Size, resampling: str) -> Image.Image:
    """``picture`` in RGB, brought to ``size`` by nearest, bilinear, bicubic or lanczos.

    Raises ImageError for a mode that is not shown.
    """
    return _convert(picture).resize(size, Image.Resampling[resampling.upper()])


def regularized_size(size: Size, longest_side: int | None) -> Size:
    """What ``regularize`` makes of a picture of ``size``. Raises ImageError as it does."""
    if longest_side is None:
        return size
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
