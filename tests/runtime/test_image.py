"""Pictures of every sort, and what all towers make of one first."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import needs_golden
from pictures import (
    BAD,
    LONGEST_SIDE,
    SEG_LONGEST_SIDE,
    file_of,
    golden_picture,
    noise,
    patchify,
    picture_of,
    sha256,
)
from PIL import Image

from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.image import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    imagenet_planes,
    open_picture,
    regularize,
)
from vpt_edge.runtime.models import dinov2, sam

SHOWS: list[Callable[[Image.Image], object]] = [
    patchify,
    lambda picture: dinov2.preprocess(picture, LONGEST_SIDE),
    lambda picture: sam.preprocess(picture, SEG_LONGEST_SIDE),
]


@needs_golden
@pytest.mark.parametrize("row", BAD, ids=lambda row: row["file"])
def test_what_stops_the_authors_code_is_an_error(row: dict[str, Any]) -> None:
    picture = golden_picture(row)
    for show in SHOWS:
        with pytest.raises(ImageError, match="too thin"):
            show(picture)


def test_pillow_rounds_as_the_authors_pillow_did() -> None:
    """Another Pillow may resample with other rounding: then every golden tensor changes, and the
    limit must stay.
    """
    squares = np.arange(257 * 333 * 3, dtype=np.int64) ** 2
    values = (squares * 7919 % 251).astype(np.uint8).reshape(257, 333, 3)
    resized = Image.fromarray(values).resize((336, 252), Image.Resampling.BICUBIC)
    assert sha256(resized) == "ee111bf2ab25fb99e78356d0bc3a37915559a651fc80fc9a0cae891774851b93"


def test_a_large_picture_shrinks_to_the_limit_first() -> None:
    assert regularize(noise(1000, 700), LONGEST_SIDE).size == (512, 358)
    assert regularize(noise(513, 20), LONGEST_SIDE).size == (512, 28)
    assert regularize(noise(300, 5), LONGEST_SIDE).size == (300, 28)
    assert regularize(noise(300, 200), LONGEST_SIDE).size == (300, 200)


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist()))


def test_shrinking_takes_the_nearest_pixel() -> None:
    picture = noise(1024, 1024)
    assert colours(regularize(picture, LONGEST_SIDE)) <= colours(picture)


def test_planes_are_channels_by_imagenets_mean_and_deviation() -> None:
    pixels = np.array([[[0, 255, 51], [102, 0, 255]]], np.uint8)
    planes = imagenet_planes(pixels)
    assert (planes.dtype.name, planes.shape) == ("float32", (3, 1, 2))
    expected = (pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(planes.transpose(1, 2, 0), expected, rtol=1e-6)


MODES = [
    *("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I", "F", "I;16", "RGBa"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (40, 60), (700, 30)])
def test_every_mode_of_pillow_is_shown(mode: str, size: tuple[int, int]) -> None:
    picture = open_picture(Image.new(mode, size))
    assert regularize(picture, LONGEST_SIDE).mode == "RGB"
    assert np.isfinite(patchify(picture).values).all()
    assert np.isfinite(dinov2.preprocess(picture, LONGEST_SIDE)).all()


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("PNG", "1"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("JPEG", "L"),
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("TIFF", "CMYK"),
        ("TIFF", "F"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("WEBP", "RGBA"),
        ("PPM", "L"),
    ],
)
def test_files_and_their_bytes_are_read_alike(form: str, mode: str, tmp_path: Path) -> None:
    picture = noise(50, 40).convert("L")
    if mode == "I;16":
        picture = Image.new(mode, (50, 40), 9)
    data = file_of(picture.convert(mode), form)
    file = tmp_path / "picture.unknown"
    file.write_bytes(data)
    views = [patchify(open_picture(source)) for source in (data, file, str(file))]
    assert len({sha256(view.values) for view in views}) == 1


def test_alpha_is_dropped_not_blended() -> None:
    clear = Image.new("RGBA", (56, 56), (200, 100, 50, 0))
    solid = Image.new("RGB", (56, 56), (200, 100, 50))
    np.testing.assert_array_equal(patchify(clear).values, patchify(solid).values)


def test_a_palette_with_alpha_shows_its_colours() -> None:
    picture = Image.new("P", (56, 56), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    opened = open_picture(file_of(picture, "PNG", transparency=1))
    assert "transparency" in opened.info
    solid = Image.new("RGB", (56, 56), (10, 200, 30))
    np.testing.assert_array_equal(patchify(opened).values, patchify(solid).values)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(form: str) -> None:
    first = Image.new("RGB", (60, 60), (250, 0, 0))
    others = [Image.new("RGB", (60, 60), colour) for colour in ((0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if form == "WEBP" else {}
    data = file_of(first, form, save_all=True, append_images=others, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    red = picture_of(patchify(open_picture(data)))
    assert (red == (250, 0, 0)).all()


def test_an_exif_rotation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = file_of(noise(90, 40), "JPEG")
    turned = file_of(noise(90, 40), "JPEG", exif=exif)
    assert plain != turned
    opened = open_picture(turned)
    assert opened.size == (90, 40)
    np.testing.assert_array_equal(patchify(opened).values, patchify(open_picture(plain)).values)


def test_an_array_is_a_picture_in_rgb() -> None:
    picture = noise(70, 50)
    array = np.asarray(picture)
    shown = patchify(open_picture(array))
    np.testing.assert_array_equal(shown.values, patchify(picture).values)
    mirrored = patchify(open_picture(array[:, ::-1]))
    copied = patchify(open_picture(array[:, ::-1].copy()))
    np.testing.assert_array_equal(mirrored.values, copied.values)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8, 3), bool),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
        np.array(7, np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_other_arrays_are_refused(array: Any) -> None:
    with pytest.raises(ImageError, match=r"is not a picture: .*expected uint8 \(height, width, 3"):
        open_picture(array)


WHOLE = file_of(noise(64, 64), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n",
        WHOLE[:30],
        WHOLE[:200],
        WHOLE[: len(WHOLE) // 2],
        file_of(noise(64, 64), "JPEG")[:300],
        file_of(noise(64, 64), "GIF")[:900],
        b"GIF89a",
        b"qoif" + 2 * (8).to_bytes(4, "big") + b"\x03\x00",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=lambda data: f"{data[:6]!r}{len(data)}",
)
def test_broken_bytes_are_one_line(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(data)
    for source in (data, file, str(file)):
        with pytest.raises(ImageError) as error:
            open_picture(source)
        assert "\n" not in str(error.value)


def test_a_damaged_png_is_refused() -> None:
    data = bytearray(WHOLE)
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError):
        open_picture(bytes(data))


@pytest.mark.parametrize(
    ("name", "problem"), [("missing.png", "missing"), (".", "folder"), ("a\0b", "null")]
)
def test_a_path_without_a_picture_says_so(name: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no picture at") as error:
        open_picture(tmp_path / name)
    assert problem in str(error.value)


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000), (5000, 4)])
def test_too_thin_a_picture_is_refused_in_one_line(size: tuple[int, int]) -> None:
    for show in SHOWS:
        with pytest.raises(ImageError, match="too thin") as error:
            show(Image.new("RGB", size))
        assert "\n" not in str(error.value)


def test_a_closed_picture_is_refused(tmp_path: Path) -> None:
    noise(30, 30).save(tmp_path / "a.png")
    picture = Image.open(tmp_path / "a.png")
    picture.close()
    with pytest.raises(ImageError):
        open_picture(picture)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError):
        open_picture(Image.new("RGB", size))


@pytest.mark.filterwarnings("ignore")  # Pillow's own, on what it reads in spite of them
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_altered_pictures_are_shown_or_refused(form: str) -> None:
    data = file_of(noise(40, 30), form)
    random = np.random.default_rng(0)
    for _ in range(60):
        altered = np.frombuffer(data, np.uint8).copy()
        places = random.integers(0, min(len(data), 300), 3)
        altered[places] = random.integers(0, 256, 3)
        with contextlib.suppress(ImageError):
            open_picture(altered.tobytes()[: random.integers(1, len(data) + 1)])
