"""What Qwen2-VL's tower sees, to the authors' bit, and what it tells its graphs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from golden import CASES, GOLDEN, needs_golden
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pictures import (
    GOOD,
    LIMITS,
    LONGEST_SIDE,
    MAX_PIXELS,
    MIN_PIXELS,
    golden_picture,
    noise,
    patchify,
    picture_of,
    sha256,
)
from PIL import Image

from vpt_edge.runtime.context import Encoded, Visual
from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.image import open_picture, regularize
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR, Qwen2VL
from vpt_edge.runtime.positions import mrope, mrope_positions, vision_rope
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.models import Tower

MEAN = PROCESSOR.mean
STD = PROCESSOR.std

sides = st.integers(1, 600)


def smart_resize(width: int, height: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Qwen2-VL's size within the limits, of a picture behind the first shrink."""
    return PROCESSOR.smart_resize(width, height, ImageConfig(LONGEST_SIDE, min_pixels, max_pixels))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_bundle(tmp_path_factory.mktemp("tiny")).manifest


@pytest.fixture(scope="module")
def tower(manifest: Manifest) -> Qwen2VL:
    return Qwen2VL(manifest)


@needs_golden
@pytest.mark.parametrize("row", GOOD, ids=lambda row: row["file"])
def test_what_qwen_sees_is_the_authors(row: dict[str, Any], tower: Qwen2VL) -> None:
    expected = row["qwen"]
    picture = golden_picture(row)
    regular = regularize(picture, LONGEST_SIDE)
    assert list(regular.size) == expected["regularized_wh"]
    assert sha256(regular) == expected["regularized_sha256_rgb8"]
    assert list(smart_resize(*regular.size, MIN_PIXELS, MAX_PIXELS)) == expected["resized_wh"]
    patches = tower.preprocess(picture, LIMITS)
    assert list(patches.grid) == expected["grid_thw"]
    assert tower.tokens(patches.grid) == expected["tokens"]
    assert sha256(picture_of(patches)) == expected["resized_sha256_rgb8"]
    assert list(patches.values.shape) == expected["tensor"]["shape"]
    assert sha256(patches.values) == expected["tensor"]["sha256_f32"]


@needs_golden
@pytest.mark.parametrize("name", CASES)
def test_pictures_and_crops_of_the_cases_are_the_authors(name: str) -> None:
    folder = GOLDEN / name
    picture = open_picture(folder / "image.png")
    resized = sorted(folder.glob("resized_images_*.png"))
    sources = json.loads((folder / "expected.json").read_text("utf-8"))["images"]
    for file, source in zip(resized, sources, strict=True):
        shown = picture
        if "," in source["path"]:
            left, top, right, bottom = map(int, source["path"].rpartition("_")[2].split(","))
            shown = picture.crop((left, top, right, bottom))
        np.testing.assert_array_equal(picture_of(patchify(shown)), np.asarray(Image.open(file)))


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
def test_patches_invert_to_the_resized_picture(width: int, height: int, tower: Qwen2VL) -> None:
    picture = noise(width, height)
    regular = regularize(picture, LONGEST_SIDE)
    size = smart_resize(*regular.size, MIN_PIXELS, MAX_PIXELS)
    patches = patchify(picture)
    assert patches.grid == (1, size[1] // 14, size[0] // 14)
    assert tower.tokens(patches.grid) * 4 == len(patches.values)
    resized = regular.resize(size, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(picture_of(patches), np.asarray(resized))


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    limits=st.builds(
        ImageConfig,
        st.sampled_from([28, 100, 512]),
        st.sampled_from([784, 3136, 20000]),
        st.sampled_from([784 * 40, MAX_PIXELS]),
    ),
)
@example(width=512, height=1, limits=LIMITS)
@example(width=0, height=3, limits=LIMITS)  # a crop of a tiny picture
def test_the_grid_is_known_from_the_size_alone(
    width: int, height: int, limits: ImageConfig, tower: Qwen2VL
) -> None:
    picture = Image.new("L", (width, height))
    try:
        patches = tower.preprocess(picture, limits)
    except ImageError as error:
        with pytest.raises(ImageError, match=str(error)):
            tower.grid(picture.size, limits)
    else:
        assert tower.grid(picture.size, limits) == patches.grid


def test_four_neighbouring_patches_lie_together() -> None:
    values = np.zeros((56, 84, 3), np.uint8)
    for row in range(4):
        for column in range(6):
            values[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] = 10 * row + column
    reds = patchify(Image.fromarray(values)).values[:, 0]
    brightness = np.rint((reds * STD[0] + MEAN[0]) * 255).tolist()
    assert brightness[:12] == [0, 1, 10, 11, 2, 3, 12, 13, 4, 5, 14, 15]
    assert brightness[12:] == [20, 21, 30, 31, 22, 23, 32, 33, 24, 25, 34, 35]


def test_channels_come_before_frames_and_pixels() -> None:
    red = patchify(Image.new("RGB", (56, 56), (255, 0, 0)))
    first = red.values[0].reshape(3, 2 * 14 * 14)
    mean = np.array(MEAN, np.float32)
    std = np.array(STD, np.float32)
    white = (np.float32(1) - mean) / std
    black = (np.float32(0) - mean) / std
    expected = np.repeat([[white[0]], [black[1]], [black[2]]], 392, axis=1)
    np.testing.assert_array_equal(first, expected)


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    longest_side=st.sampled_from([28, 100, 512]),
    min_pixels=st.sampled_from([784, 3136, 20000, 200000]),
)
@example(width=512, height=28, longest_side=512, min_pixels=20000)
@example(width=512, height=300, longest_side=512, min_pixels=784)
def test_no_picture_takes_more_than_the_most_tokens(
    width: int, height: int, longest_side: int, min_pixels: int
) -> None:
    limits = ImageConfig(longest_side, min_pixels, MAX_PIXELS)
    factor = min(1.0, longest_side / max(width, height))
    assume(int(min(width, height) * factor))  # what is thinner is refused
    shown = (max(28, int(width * factor)), max(28, int(height * factor)))
    size = smart_resize(*shown, min_pixels, MAX_PIXELS)
    assert size[0] * size[1] // 28**2 <= PROCESSOR.most_tokens(limits)


def test_the_manifest_names_it(manifest: Manifest) -> None:
    tower: Tower = Qwen2VL(manifest)  # mypy holds it against the protocol
    assert isinstance(open_tower(manifest), type(tower))


def test_the_encoder_is_given_patches_and_how_they_turn(tower: Qwen2VL) -> None:
    patches = tower.preprocess(noise(90, 60), LIMITS)
    inputs = tower.inputs(patches)
    assert set(inputs) == {"patches", "cos", "sin"}
    np.testing.assert_array_equal(inputs["patches"], patches.values[None])
    cos, sin = vision_rope(4, 6, 2, 8)  # the tiny bundle's head has 8 numbers
    np.testing.assert_array_equal(inputs["cos"], cos)
    np.testing.assert_array_equal(inputs["sin"], sin)


def test_the_language_model_is_turned_by_time_row_and_column(
    tower: Qwen2VL, manifest: Manifest
) -> None:
    visuals = [Visual(2, Encoded(np.zeros((6, 4), np.float32), (1, 4, 6)))]
    positions = tower.positions(10, visuals)
    np.testing.assert_array_equal(positions, mrope_positions(10, visuals, 2))
    text = manifest.text
    cos, sin = mrope(positions, text.head_dim, text.rope_theta, text.mrope_section)
    turned = tower.rotations(positions)
    np.testing.assert_array_equal(turned[0], cos)
    np.testing.assert_array_equal(turned[1], sin)
