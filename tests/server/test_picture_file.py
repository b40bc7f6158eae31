from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from vpt_edge.runtime.errors import ImageError
from vpt_edge.server.picture_cache import image_bytes
from vpt_edge.server.picture_file import PictureTooLargeError, check_headers, open_upright

LIMIT = 100_000
CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))  # clockwise from the left top


def corner_picture() -> Image.Image:
    """64x32 in four colours."""
    picture = Image.new("RGB", (64, 32))
    places = ((0, 0), (32, 0), (32, 16), (0, 16))
    for colour, place in zip(CORNERS, places, strict=True):
        picture.paste(Image.new("RGB", (32, 16), colour), place)
    return picture


def colours(picture: Image.Image) -> tuple[Any, ...]:
    right = picture.width - 1
    bottom = picture.height - 1
    places = ((0, 0), (right, 0), (right, bottom), (0, bottom))
    return tuple(picture.convert("RGB").getpixel(place) for place in places)


def file_of(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = orientation
    return data


# By EXIF's number: where the corners of the file are seen, clockwise from the left top.
SEEN = {
    1: (0, 1, 2, 3),
    2: (1, 0, 3, 2),
    3: (2, 3, 0, 1),
    4: (3, 2, 1, 0),
    5: (0, 3, 2, 1),
    6: (3, 0, 1, 2),
    7: (2, 1, 0, 3),
    8: (1, 2, 3, 0),
    9: (0, 1, 2, 3),
}


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", SEEN)
def test_a_picture_is_turned_as_browsers_turn_it(orientation: int, form: str) -> None:
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = file_of(corner_picture(), form, exif=exif(orientation), **options)
    upright = open_upright(data, LIMIT)
    expected = [CORNERS[index] for index in SEEN[orientation]]
    found = np.array(colours(upright))
    assert np.abs(found - np.array(expected)).max() < 8
    assert upright.size == ((32, 64) if 5 <= orientation <= 8 else (64, 32))


def test_webp_is_not_turned_as_browsers_do_not() -> None:
    data = file_of(corner_picture(), "WEBP", exif=exif(6), lossless=True)
    assert open_upright(data, LIMIT).size == (64, 32)


@pytest.mark.parametrize(
    "block",
    [b"Exif\0\0rubbish", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0", b"II*\0\xff\xff\xff\xff"],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_an_exif_that_is_damaged_turns_nothing(block: bytes) -> None:
    data = file_of(corner_picture(), "JPEG", exif=block)
    assert open_upright(data, LIMIT).size == (64, 32)


def test_nothing_is_kept_of_the_file_but_its_pixels() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "secret")
    data = file_of(corner_picture(), "PNG", pnginfo=info, exif=exif(6), icc_profile=b"x" * 1000)
    upright = open_upright(data, LIMIT)
    assert upright.info == {}
    assert type(upright) is Image.Image
    palette = corner_picture().convert("P")
    assert open_upright(file_of(palette, "PNG", transparency=3), LIMIT).info == {"transparency": 3}


def wide(mode: str) -> Image.Image:
    values = np.arange(64 * 32).reshape(32, 64)
    return Image.fromarray(values.astype(np.uint16)) if mode == "I;16" else corner_picture()


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("PNG", "I;16"),
        ("TIFF", "I;16"),
        ("JPEG", "CMYK"),
        ("TIFF", "CMYK"),
        ("PNG", "1"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("GIF", "P"),
        ("WEBP", "RGB"),
        ("BMP", "RGB"),
        ("PPM", "RGB"),
    ],
)
def test_pictures_of_all_kinds_are_opened(form: str, mode: str) -> None:
    picture = wide(mode).convert(mode) if mode != "I;16" else wide(mode)
    data = file_of(picture, form)
    check_headers([data], LIMIT)
    upright = open_upright(data, LIMIT)
    assert upright.size == (64, 32)
    assert upright.mode == mode
    assert image_bytes(upright) >= len(upright.tobytes())


def test_a_deep_picture_is_turned() -> None:
    picture = wide("I;16")
    turned = open_upright(file_of(picture, "PNG", exif=exif(6)), LIMIT)
    assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(picture), -1))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_pictures_in_a_file_the_first_counts(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    second = Image.new("RGB", (64, 32), "black")
    data = file_of(corner_picture(), form, save_all=True, append_images=[second], **options)
    found = np.array(colours(open_upright(data, LIMIT)))
    assert np.abs(found - np.array(CORNERS)).max() < 64


def test_a_phone_s_mpo_is_turned() -> None:
    """Two pictures in one file that says it is a JPEG."""
    picture = corner_picture()
    data = file_of(picture, "MPO", save_all=True, append_images=[picture], exif=exif(6))
    assert data.startswith(b"\xff\xd8")
    assert open_upright(data, LIMIT).size == (32, 64)


def bomb(width: int, height: int, rows: int | None = None) -> bytes:
    """A black PNG, or as many of its ``rows``."""

    def chunk(name: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    pixels = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_picture_that_is_too_large_is_known_by_its_header() -> None:
    data = bomb(1000, 200)
    for end in (len(data), 60):  # without its pixels, too
        with pytest.raises(PictureTooLargeError, match="1000x200 pixels, expected up to 100000"):
            check_headers([data[:end]], LIMIT)
    with pytest.raises(PictureTooLargeError):
        open_upright(data, LIMIT)
    check_headers([bomb(1000, 100)], LIMIT)


def test_more_than_pillow_reads_is_refused() -> None:
    with pytest.raises(ImageError, match="has more than 178956970 pixels"):
        check_headers([bomb(65535, 65535, rows=1)], 1 << 40)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_picture_that_ends_early_is_refused(form: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    data = file_of(Image.fromarray(noise), form)
    with pytest.raises(ImageError):
        open_upright(data[: len(data) // 2], LIMIT)


@pytest.mark.parametrize(
    "data", [b"", b"rubbish", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0", b"%PDF-1"]
)
def test_what_is_not_a_picture_is_refused_by_its_header(data: bytes) -> None:
    with pytest.raises(ImageError, match="is not a picture"):
        check_headers([data], LIMIT)


def test_text_that_unfolds_without_end_is_refused() -> None:
    """A comment of a PNG of a few kilobytes."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a" * (1 << 24), zip=True)
    data = file_of(corner_picture(), "PNG", pnginfo=info)
    assert len(data) < 100_000
    with pytest.raises(ImageError):
        open_upright(data, LIMIT)
