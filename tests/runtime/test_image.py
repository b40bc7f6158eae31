"""The authors' preprocessing to the bit, and pictures of every sort."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import CASES, GOLDEN, needs_golden
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from tables import TABLES, table

from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.image import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Patches,
    open_picture,
    regularize,
)
from vpt_edge.runtime.models.dinov2 import preprocess as detection_pixels
from vpt_edge.runtime.models.qwen2_vl import preprocess as view
from vpt_edge.runtime.models.qwen2_vl import smart_resize
from vpt_edge.runtime.models.sam import preprocess as seg_pixels

LIMIT, SEG_LIMIT, MIN_PIXELS, MAX_PIXELS = 512, 1024, 3136, 12845056
ROWS = table("preprocess") or []
GOOD = [row for row in ROWS if "error" not in row["qwen"]]
BAD = [row for row in ROWS if "error" in row["qwen"]]

sides = st.integers(1, 600)


def sha256(array: np.ndarray[Any, Any] | Image.Image) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def seen(picture: Image.Image) -> Patches:
    return view(picture, LIMIT, MIN_PIXELS, MAX_PIXELS)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def picture_of(view: Patches) -> np.ndarray[Any, Any]:
    """(height, width, 3) uint8 from the patches of a view."""
    rows, columns = view.grid
    patches = view.patches.reshape(rows // 2, columns // 2, 2, 2, 3, 2, 14, 14)
    np.testing.assert_array_equal(
        patches[:, :, :, :, :, 0], patches[:, :, :, :, :, 1]
    )  # the frame is duplicated
    pixels = (
        patches[:, :, :, :, :, 0].transpose(0, 2, 5, 1, 3, 6, 4).reshape(14 * rows, 14 * columns, 3)
    )
    return np.rint((pixels * CLIP_STD + CLIP_MEAN) * 255).astype(np.uint8)


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def golden_picture(row: dict[str, Any]) -> Image.Image:
    picture = open_picture(TABLES / "images" / row["file"])
    assert (picture.mode, list(picture.size)) == (row["mode"], row["wh"])
    return picture


@needs_golden
@pytest.mark.parametrize("row", GOOD, ids=lambda row: row["file"])
def test_what_qwen_sees_is_the_authors(row: dict[str, Any]) -> None:
    expected, picture = row["qwen"], golden_picture(row)
    regular = regularize(picture, LIMIT)
    assert list(regular.size) == expected["regularized_wh"]
    assert sha256(regular) == expected["regularized_sha256_rgb8"]
    assert list(smart_resize(*regular.size, MIN_PIXELS, MAX_PIXELS)) == expected["resized_wh"]
    result = seen(picture)
    assert [1, *result.grid] == expected["grid_thw"]
    assert result.tokens == expected["tokens"]
    assert sha256(picture_of(result)) == expected["resized_sha256_rgb8"]
    assert list(result.patches.shape) == expected["tensor"]["shape"]
    assert sha256(result.patches) == expected["tensor"]["sha256_f32"]


@needs_golden
@pytest.mark.parametrize("row", GOOD, ids=lambda row: row["file"])
def test_what_dinov2_sees_is_the_authors(row: dict[str, Any]) -> None:
    expected, picture = row["dino"], golden_picture(row)
    assert list(regularize(picture, LIMIT).size) == expected["regularized_wh"]
    pixels = detection_pixels(picture, LIMIT)
    cropped = np.rint((pixels[0].transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN) * 255).astype(
        np.uint8
    )
    assert sha256(cropped) == expected["cropped_sha256_rgb8"]
    assert list(pixels.shape) == expected["tensor"]["shape"]
    assert sha256(pixels) == expected["tensor"]["sha256_f32"]


@needs_golden
@pytest.mark.parametrize("row", GOOD, ids=lambda row: row["file"])
def test_what_sam_sees_is_the_authors(row: dict[str, Any]) -> None:
    expected, picture = row["sam"], golden_picture(row)
    assert list(regularize(picture, SEG_LIMIT).size) == expected["regularized_wh"]
    pixels = seg_pixels(picture, SEG_LIMIT)
    width, height = expected["resized_wh"]
    inside = pixels[0, :, :height, :width].transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN
    assert sha256(np.rint(inside * 255).astype(np.uint8)) == expected["resized_sha256_rgb8"]
    assert not pixels[0, :, height:].any()
    assert not pixels[0, :, :, width:].any()
    assert sha256(pixels) == expected["tensor"]["sha256_f32"]


@needs_golden
@pytest.mark.parametrize("row", BAD, ids=lambda row: row["file"])
def test_what_stops_the_authors_code_is_an_error(row: dict[str, Any]) -> None:
    picture = golden_picture(row)
    for show in (
        seen,
        lambda picture: detection_pixels(picture, LIMIT),
        lambda p: seg_pixels(p, SEG_LIMIT),
    ):
        with pytest.raises(ImageError, match="too thin"):
            show(picture)


@needs_golden
@pytest.mark.parametrize("name", CASES)
def test_pictures_and_crops_of_the_cases_are_the_authors(name: str) -> None:
    folder = GOLDEN / name
    picture, suffixes = (
        open_picture(folder / "image.png"),
        sorted(folder.glob("resized_images_*.png")),
    )
    sources = json.loads((folder / "expected.json").read_text("utf-8"))["images"]
    for file, source in zip(suffixes, sources, strict=True):
        box = source["path"].rpartition("_")[2].split(",") if "," in source["path"] else None
        shown = (
            picture.crop((int(box[0]), int(box[1]), int(box[2]), int(box[3]))) if box else picture
        )
        np.testing.assert_array_equal(picture_of(seen(shown)), np.asarray(Image.open(file)))


def test_pillow_rounds_as_the_authors_pillow_did() -> None:
    """Another Pillow may resample with other rounding: then every golden tensor changes, and the
    limit must stay."""
    values = (
        (np.arange(257 * 333 * 3, dtype=np.int64) ** 2 * 7919 % 251)
        .astype(np.uint8)
        .reshape(257, 333, 3)
    )
    resized = Image.fromarray(values).resize((336, 252), Image.Resampling.BICUBIC)
    assert sha256(resized) == "ee111bf2ab25fb99e78356d0bc3a37915559a651fc80fc9a0cae891774851b93"


def test_sizes_round_to_even_multiples() -> None:
    """Python's round: 70 is halfway between 56 and 84, 42 between 28 and 56."""
    assert smart_resize(70, 42, MIN_PIXELS, MAX_PIXELS) == (56, 56)
    assert smart_resize(98, 126, MIN_PIXELS, MAX_PIXELS) == (112, 112)


@given(width=st.integers(28, 6000), height=st.integers(28, 6000))
@example(width=28, height=28)
@example(width=6000, height=6000)
def test_sizes_are_multiples_of_28_within_the_limits(width: int, height: int) -> None:
    new = smart_resize(width, height, MIN_PIXELS, MAX_PIXELS)
    assert [side % 28 for side in new] == [0, 0]
    assert MIN_PIXELS <= new[0] * new[1] <= MAX_PIXELS


@given(width=sides, height=sides, limit=st.integers(28 * 28 * 25, 40000))
def test_a_lower_limit_of_pixels_is_kept(width: int, height: int, limit: int) -> None:
    new = smart_resize(max(width, 28), max(height, 28), MIN_PIXELS, limit)
    assert new[0] * new[1] <= limit


def test_a_picture_that_cannot_meet_the_limit_is_refused() -> None:
    with pytest.raises(ImageError, match="crop it"):
        smart_resize(512, 28, MIN_PIXELS, 3136)


@given(width=st.integers(1, 200), height=st.integers(1, 200))
@example(width=1, height=1)
def test_patches_invert_to_the_resized_picture(width: int, height: int) -> None:
    picture = noise(width, height)
    regular = regularize(picture, LIMIT)
    size = smart_resize(*regular.size, MIN_PIXELS, MAX_PIXELS)
    result = seen(picture)
    assert result.grid == (size[1] // 14, size[0] // 14)
    assert result.tokens * 4 == len(result.patches)
    np.testing.assert_array_equal(
        picture_of(result), np.asarray(regular.resize(size, Image.Resampling.BICUBIC))
    )


def test_four_neighbouring_patches_lie_together() -> None:
    values = np.zeros((56, 84, 3), np.uint8)
    for row in range(4):
        for column in range(6):
            values[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] = 10 * row + column
    brightness = np.rint(
        (seen(Image.fromarray(values)).patches[:, 0] * CLIP_STD[0] + CLIP_MEAN[0]) * 255
    )
    assert brightness.tolist()[:12] == [0, 1, 10, 11, 2, 3, 12, 13, 4, 5, 14, 15]
    assert brightness.tolist()[12:] == [20, 21, 30, 31, 22, 23, 32, 33, 24, 25, 34, 35]


def test_channels_come_before_frames_and_pixels() -> None:
    first = seen(Image.new("RGB", (56, 56), (255, 0, 0))).patches[0].reshape(3, 2 * 14 * 14)
    mean, std = np.array(CLIP_MEAN, np.float32), np.array(CLIP_STD, np.float32)
    white, black = ((np.float32(level) - mean) / std for level in (1, 0))
    np.testing.assert_array_equal(
        first, np.repeat([[white[0]], [black[1]], [black[2]]], 392, axis=1)
    )


def test_a_large_picture_shrinks_to_the_limit_first() -> None:
    assert regularize(noise(1000, 700), LIMIT).size == (512, 358)
    assert regularize(noise(513, 20), LIMIT).size == (512, 28)
    assert regularize(noise(300, 5), LIMIT).size == (300, 28)
    assert regularize(noise(300, 200), LIMIT).size == (300, 200)


def test_shrinking_takes_the_nearest_pixel() -> None:
    colours = {tuple(pixel) for pixel in np.asarray(noise(1024, 1024)).reshape(-1, 3).tolist()}
    assert {
        tuple(pixel)
        for pixel in np.asarray(regularize(noise(1024, 1024), LIMIT)).reshape(-1, 3).tolist()
    } <= colours


def test_dinov2_sees_the_centre() -> None:
    pixels = detection_pixels(Image.new("RGB", (100, 100), (255, 255, 255)), LIMIT)
    assert (pixels.shape, pixels.dtype.name) == ((1, 3, 224, 224), "float32")
    values = np.zeros((256, 512, 3), np.uint8)
    values[16:240, 144:368] = 255
    pixels = detection_pixels(Image.fromarray(values), LIMIT)
    assert len(np.unique(pixels[0, 0])) == 1


def test_sam_pads_right_and_below_with_zeros() -> None:
    pixels = seg_pixels(Image.new("RGB", (100, 50), (255, 255, 255)), SEG_LIMIT)
    assert (pixels.shape, pixels.dtype.name) == ((1, 3, 1024, 1024), "float32")
    assert (pixels[0, :, :512] > 2).all()
    assert not pixels[0, :, 512:].any()


MODES = [
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "RGBa",
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (40, 60), (700, 30)])
def test_every_mode_of_pillow_is_shown(mode: str, size: tuple[int, int]) -> None:
    picture = open_picture(Image.new(mode, size))
    assert regularize(picture, LIMIT).mode == "RGB"
    assert np.isfinite(seen(picture).patches).all()
    assert np.isfinite(detection_pixels(picture, LIMIT)).all()


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
    data = encoded(
        noise(50, 40).convert("L").convert(mode)
        if mode != "I;16"
        else Image.new(mode, (50, 40), 9),
        form,
    )
    file = tmp_path / "picture.unknown"
    file.write_bytes(data)
    views = [seen(open_picture(source)) for source in (data, file, str(file))]
    assert len({sha256(view.patches) for view in views}) == 1


def test_alpha_is_dropped_not_blended() -> None:
    clear = Image.new("RGBA", (56, 56), (200, 100, 50, 0))
    solid = Image.new("RGB", (56, 56), (200, 100, 50))
    np.testing.assert_array_equal(seen(clear).patches, seen(solid).patches)


def test_a_palette_with_alpha_shows_its_colours() -> None:
    picture = Image.new("P", (56, 56), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    opened = open_picture(encoded(picture, "PNG", transparency=1))
    assert "transparency" in opened.info
    np.testing.assert_array_equal(
        seen(opened).patches, seen(Image.new("RGB", (56, 56), (10, 200, 30))).patches
    )


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(form: str) -> None:
    frames = [
        Image.new("RGB", (60, 60), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))
    ]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    red = picture_of(seen(open_picture(data)))
    assert (red == (250, 0, 0)).all()


def test_an_exif_rotation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = (encoded(noise(90, 40), "JPEG", **options) for options in ({}, {"exif": exif}))
    assert plain != turned
    assert open_picture(turned).size == (90, 40)
    np.testing.assert_array_equal(
        seen(open_picture(turned)).patches, seen(open_picture(plain)).patches
    )


def test_an_array_is_a_picture_in_rgb() -> None:
    picture = noise(70, 50)
    array = np.asarray(picture)
    np.testing.assert_array_equal(seen(open_picture(array)).patches, seen(picture).patches)
    np.testing.assert_array_equal(
        seen(open_picture(array[:, ::-1])).patches,
        seen(open_picture(array[:, ::-1].copy())).patches,
    )


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
    with pytest.raises(ImageError, match=r"expected uint8 \(height, width, 3\)"):
        open_picture(array)


def whole_png() -> bytes:
    return encoded(noise(64, 64), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n",
        whole_png()[:30],
        whole_png()[:200],
        whole_png()[: len(whole_png()) // 2],
        encoded(noise(64, 64), "JPEG")[:300],
        encoded(noise(64, 64), "GIF")[:900],
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
    data = bytearray(whole_png())
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError):
        open_picture(bytes(data))


@pytest.mark.parametrize("name", ["missing.png", ".", "a\0b"])
def test_a_path_without_a_picture_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no picture at") as error:
        open_picture(tmp_path / name)
    assert ("folder" if name == "." else "missing") in str(error.value)


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000), (5000, 4)])
def test_too_thin_a_picture_is_refused_in_one_line(size: tuple[int, int]) -> None:
    for show in (
        seen,
        lambda picture: detection_pixels(picture, LIMIT),
        lambda p: seg_pixels(p, SEG_LIMIT),
    ):
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
    data, random = encoded(noise(40, 30), form), np.random.default_rng(0)
    for _ in range(60):
        altered = np.frombuffer(data, np.uint8).copy()
        places = random.integers(0, min(len(data), 300), 3)
        altered[places] = random.integers(0, 256, 3)
        with contextlib.suppress(ImageError):
            open_picture(altered.tobytes()[: random.integers(1, len(data) + 1)])
