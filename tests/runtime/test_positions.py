"""Rotary positions of text, pictures and patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from golden import CASES, Case, needs_golden
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.positions import mrope, mrope_positions, vision_rope

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAD = 7
IMAGE_PAD = 968  # in the golden checkpoints

Grid = tuple[int, int]
Part = tuple[int, Grid | None]  # so many text tokens, then a picture

sizes = st.integers(1, 6).map(lambda half: 2 * half)
parts = st.lists(st.tuples(st.integers(1, 9), st.none() | st.tuples(sizes, sizes)), max_size=5)


def sequence(parts: list[Part]) -> tuple[list[int], list[Grid]]:
    ids, grids = list[int](), list[Grid]()
    for text, grid in parts:
        ids += [1] * text
        if grid:
            ids += [PAD] * (grid[0] * grid[1] // 4)
            grids.append(grid)
    return ids, grids


@needs_golden
@pytest.mark.parametrize("name", CASES)
def test_positions_are_the_authors(name: str) -> None:
    arrays = Case(name).arrays
    grids = [(int(rows), int(columns)) for _, rows, columns in arrays["image_grid_thw"]]
    got = mrope_positions(arrays["ids"], grids, IMAGE_PAD)
    np.testing.assert_array_equal(got, arrays["position_ids"][:, 0])
    assert got.max() + 1 - len(arrays["ids"]) == arrays["rope_delta"].item()
    first = mrope_positions(arrays["round1_prompt_ids"], grids[:1], IMAGE_PAD)
    expected = arrays["round1_position_ids" if "round1_position_ids" in arrays else "position_ids"]
    np.testing.assert_array_equal(first, expected[:, 0, : len(arrays["round1_prompt_ids"])])


@given(length=st.integers(1, 50))
def test_text_counts_up_on_all_axes(length: int) -> None:
    np.testing.assert_array_equal(
        mrope_positions([1] * length, [], PAD), np.tile(np.arange(length), (3, 1))
    )


def test_a_picture_has_one_time_and_its_rows_and_columns() -> None:
    ids = [1, 1, PAD, PAD, PAD, PAD, PAD, PAD, 1, 1]
    assert mrope_positions(ids, [(4, 6)], PAD).tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]


def test_pictures_may_touch_and_may_begin() -> None:
    assert mrope_positions([PAD, PAD, PAD, 1], [(2, 2), (2, 4)], PAD).tolist() == [
        [0, 1, 1, 3],
        [0, 1, 1, 3],
        [0, 1, 2, 3],
    ]


def test_pads_of_a_reencode_are_text() -> None:
    np.testing.assert_array_equal(mrope_positions([1, 8, 8, 8, 1], [], PAD)[0], np.arange(5))


@given(parts=parts, more=parts)
def test_what_follows_changes_no_position(parts: list[Part], more: list[Part]) -> None:
    ids, grids = sequence(parts)
    longer, all_grids = sequence(parts + more)
    got = mrope_positions(longer, all_grids, PAD)
    np.testing.assert_array_equal(got[:, : len(ids)], mrope_positions(ids, grids, PAD))


@given(parts=parts)
def test_text_goes_on_behind_the_largest_position(parts: list[Part]) -> None:
    ids, grids = sequence(parts)
    got = mrope_positions([*ids, 1, 1], grids, PAD)
    start = got[:, : len(ids)].max(initial=-1) + 1
    assert got[:, len(ids) :].tolist() == [[start, start + 1]] * 3


@given(parts=parts)
def test_a_picture_begins_behind_the_text_and_spans_its_grid(parts: list[Part]) -> None:
    ids, grids = sequence(parts)
    got, place, first = mrope_positions(ids, grids, PAD), 0, 0
    for text, grid in parts:
        place, first = place + text, first + text
        if grid:
            rows, columns = grid[0] // 2, grid[1] // 2
            block = got[:, place : place + rows * columns] - first
            expected = [[0, row, column] for row in range(rows) for column in range(columns)]
            assert block.T.tolist() == expected
            place, first = place + rows * columns, first + max(rows, columns)


def test_frequencies_turn_with_time_row_and_column() -> None:
    positions = np.array([[5], [70], [900]])
    cos, sin = mrope(positions, 12, 100.0, (1, 2, 3))
    angles = np.array([5, 70, 70, 900, 900, 900]) / 100.0 ** (np.arange(0, 12, 2) / 12)
    np.testing.assert_allclose(cos[0], np.cos(angles), atol=1e-4)
    np.testing.assert_allclose(sin[0], np.sin(angles), atol=1e-4)
    assert (cos.dtype.name, cos.shape, sin.shape) == ("float32", (1, 6), (1, 6))


def angles(cos: NDArray[np.float32], sin: NDArray[np.float32]) -> NDArray[np.float64]:
    """The first frequency of each half is the row or column itself."""
    turn = np.arctan2(sin.astype(np.float64), cos.astype(np.float64))
    return turn[:, [0, cos.shape[1] // 2]]


@given(rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_patches_turn_in_merge_order(rows: int, columns: int) -> None:
    cos, sin = vision_rope((2 * rows, 2 * columns), 16)
    order = [
        (2 * row + inner_row, 2 * column + inner_column)
        for row in range(rows)
        for column in range(columns)
        for inner_row in range(2)
        for inner_column in range(2)
    ]
    expected = np.array(
        [[np.arctan2(np.sin(place), np.cos(place)) for place in pair] for pair in order]
    )
    np.testing.assert_allclose(angles(cos, sin), expected, atol=1e-3)


def test_the_vision_frequencies_are_those_of_half_a_head() -> None:
    cos, sin = vision_rope((2, 4), 16)
    assert (cos.dtype.name, cos.shape, sin.shape) == ("float32", (8, 8), (8, 8))
    frequencies = 1 / 10000 ** (np.arange(0, 8, 2) / 8)
    np.testing.assert_allclose(
        cos[7], np.cos(np.concatenate([frequencies, 3 * frequencies])), atol=1e-6
    )
    np.testing.assert_allclose(
        sin[7], np.sin(np.concatenate([frequencies, 3 * frequencies])), atol=1e-6
    )
