"""The overlay of plain values: what is marked, what lies beside the picture, and its words."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vpt_edge.runtime.overlay import (
    COLOURS,
    LINE_HEIGHT,
    MARGIN,
    PAPER,
    SIDE,
    TEXT_WIDTH,
    Region,
    draw,
)

BLACK = Image.new("RGB", (80, 40))
# A picture of 80x40 is drawn nine times as large.
SCALE = 9


def shown(sheet: Image.Image, width: int = SIDE, height: int = SIDE // 2) -> np.ndarray:
    """What is drawn in the place of a picture of ``width`` and ``height``, (height, width, 3)."""
    return np.asarray(sheet)[MARGIN : MARGIN + height, MARGIN : MARGIN + width].astype(int)


def pixel(sheet: Image.Image, x: int, y: int) -> tuple[int, ...]:
    """Of the sheet, counted from the picture's corner."""
    return tuple(np.asarray(sheet)[MARGIN + y, MARGIN + x].tolist())


def test_without_regions_the_picture_is_only_scaled() -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)
    picture = Image.fromarray(values)
    before = picture.tobytes()
    sheet = draw(picture, [], ["Q", "A"])
    assert (sheet.mode, sheet.size) == (
        "RGB",
        (SIDE + 2 * MARGIN, SIDE // 2 + 3 * MARGIN + 2 * LINE_HEIGHT),
    )
    large = picture.resize((SIDE, SIDE // 2), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(shown(sheet), np.asarray(large))
    assert picture.tobytes() == before
    assert sheet.getpixel((0, 0)) == PAPER


def test_the_chosen_cells_are_tinted() -> None:
    sheet = draw(BLACK, [Region((2, 4, 3, 5), (0, 0, 80, 40), BLACK)], [])
    tint = tuple(round(part * 80 / 255) for part in COLOURS[0])
    for x, y in ((220, 200), (320, 200), (220, 250), (320, 250)):
        assert pixel(sheet, x, y) == pytest.approx(tint, abs=1)
    for x, y in ((150, 200), (400, 200), (220, 150), (220, 300)):
        assert pixel(sheet, x, y) == (0, 0, 0)


def test_the_grid_has_eight_cells_a_side() -> None:
    sheet = draw(BLACK, [Region((0, 0, 0, 0), (0, 0, 80, 40), BLACK)], [])
    row = shown(sheet)[340, 4:-4, 0]  # below the cell, inside the box
    column = shown(sheet)[4:-4, 700, 0]
    lines = [90 * index - 4 for index in range(1, 8)]
    assert np.flatnonzero(row).tolist() == lines
    assert np.flatnonzero(column).tolist() == [45 * index - 4 for index in range(1, 8)]


def test_without_cells_neither_grid_nor_tint_is_drawn() -> None:
    region = Region(None, (10, 20, 30, 35), BLACK)
    inside = shown(draw(BLACK, [region], []))[20 * SCALE + 4 : 35 * SCALE - 4]
    assert not inside[:, 10 * SCALE + 4 : 30 * SCALE - 4].any()
    assert not inside[:, : 10 * SCALE].any()
    assert pixel(draw(BLACK, [region], []), 10 * SCALE, 20 * SCALE) == COLOURS[0]
    beside = draw(BLACK, [region, Region((0, 0, 0, 0), (0, 0, 10, 5), BLACK)], [])
    assert shown(beside)[300, 90].any()  # another region has cells: a line of the grid


def test_the_box_is_outlined_in_the_pictures_pixels() -> None:
    sheet = draw(BLACK, [Region((7, 7, 7, 7), (10, 20, 30, 35), BLACK)], [])
    left = 10 * SCALE
    top = 20 * SCALE
    right = 30 * SCALE - 1
    bottom = 35 * SCALE - 1
    for x, y in ((left, top), (right, top), (left, bottom), (right, bottom), (left + 3, top + 3)):
        assert pixel(sheet, x, y) == COLOURS[0]
    beside = ((left - 1, top), (left, top - 1), (right + 1, top + 9), (left + 9, bottom + 1))
    for x, y in (*beside, (left + 4, top + 4)):
        assert pixel(sheet, x, y) != COLOURS[0]


def test_each_crop_lies_beside_the_picture_in_the_colour_of_its_box() -> None:
    crops = [Image.new("RGB", (10, 20), (0, 0, 250)), Image.new("RGB", (20, 10), (0, 250, 0))]
    regions = [Region((0, 0, 1, 1), (0, 0, 10, 10), crop) for crop in crops]
    sheet = draw(BLACK, regions, [])
    beside = np.asarray(sheet)[:, SIDE + 2 * MARGIN :]
    for colour in ((0, 0, 250), (0, 250, 0), *COLOURS[:2]):
        assert (beside == colour).all(axis=2).any()
    assert not (beside == COLOURS[2]).all(axis=2).any()
    blue = np.argwhere((beside == (0, 0, 250)).all(axis=2))
    green = np.argwhere((beside == (0, 250, 0)).all(axis=2))
    assert blue[:, 0].max() < green[:, 0].min()  # in order, from above
    assert np.ptp(blue, axis=0)[0] > np.ptp(blue, axis=0)[1]  # in its own shape


def test_colours_begin_anew_behind_the_last() -> None:
    regions = [Region((0, 0, 0, 0), (70, 30, 80, 40), BLACK)] * 5
    sheet = draw(BLACK, regions, [])
    assert pixel(sheet, SIDE - 1, SIDE // 2 - 1) == COLOURS[0]  # the fifth is drawn last


def test_a_crop_without_pixels_has_an_inset() -> None:
    sheet = draw(BLACK, [Region((0, 0, 0, 0), (0, 0, 0, 0), Image.new("RGB", (0, 0)))], [])
    beside = np.asarray(sheet)[:, SIDE + 2 * MARGIN :]
    assert (beside == COLOURS[0]).all(axis=2).any()


def test_words_stand_below_and_are_cut_to_one_line() -> None:
    short = draw(BLACK, [], ["Q  What?"])
    lines = draw(BLACK, [], ["Q  What?", "over\n\n two \t lines", "A  " + "long " * 100])
    assert lines.width == short.width
    assert lines.height == short.height + 2 * LINE_HEIGHT
    below = np.asarray(lines)[MARGIN + SIDE // 2 + MARGIN :]
    assert (below[:, MARGIN:-MARGIN] != PAPER).any()
    assert (below[:, -MARGIN:] == PAPER).all()
    same = draw(BLACK, [], ["Q  What?", "over two lines", "A  " + "long " * 200])
    assert lines.tobytes() == same.tobytes()


def test_a_narrow_picture_leaves_room_for_words() -> None:
    sheet = draw(Image.new("L", (20, 200), 255), [], ["Q"])
    assert sheet.width == TEXT_WIDTH + 2 * MARGIN
    assert (shown(sheet, 72, SIDE) == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "I;16"])
def test_any_picture_is_drawn(size: tuple[int, int], mode: str) -> None:
    picture = Image.new(mode, size)
    region = Region((0, 0, 7, 7), (0, 0, *size), picture)
    sheet = draw(picture, [region, region], ["Q", "A"])
    assert sheet.mode == "RGB"
