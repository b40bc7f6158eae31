"""Rotary positions of text, pictures and patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from golden import CASES, Case, needs_golden
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.context import Encoded, Visual
from vpt_edge.runtime.positions import mrope, mrope_positions, table_positions, vision_rope

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.context import Grid

IMAGE_PAD = 968  # in the golden checkpoints
MERGE = 2

Part = tuple[int, tuple[int, int] | None]  # so many text tokens, then a picture's rows and columns

sizes = st.integers(1, 6).map(lambda half: 2 * half)
parts = st.lists(st.tuples(st.integers(1, 9), st.none() | st.tuples(sizes, sizes)), max_size=5)


def picture(start: int, grid: Grid) -> Visual:
    """A picture's tokens from ``start`` on; ``grid``: frames, rows and columns of patches."""
    frames, rows, columns = grid
    tokens = frames * rows * columns // MERGE**2
    return Visual(start, Encoded(np.zeros((tokens, 1), np.float32), grid))


def reencode(start: int, tokens: int) -> Visual:
    return Visual(start, Encoded(np.zeros((tokens, 1), np.float32), None))


def layout(parts: list[Part]) -> tuple[int, list[Visual]]:
    """How long a context of ``parts`` is, and the pictures in it."""
    length = 0
    visuals = []
    for text, grid in parts:
        length += text
        if grid:
            visuals.append(picture(length, (1, *grid)))
            length = visuals[-1].end
    return length, visuals


def golden_visuals(ids: NDArray[np.int64], grids: NDArray[np.int64]) -> list[Visual]:
    """The pictures in a golden case's ``ids``, one for each row of ``grids``."""
    places = np.flatnonzero(ids == IMAGE_PAD)
    visuals = []
    for frames, rows, columns in grids.tolist():
        visual = picture(int(places[0]), (frames, rows, columns))
        visuals.append(visual)
        places = places[visual.encoded.tokens :]
    return visuals


@needs_golden
@pytest.mark.parametrize("name", CASES)
def test_positions_are_the_authors(name: str) -> None:
    arrays = Case(name).arrays
    ids = arrays["ids"]
    grids = arrays["image_grid_thw"]
    positions = mrope_positions(len(ids), golden_visuals(ids, grids), MERGE)
    np.testing.assert_array_equal(positions, arrays["position_ids"][:, 0])
    assert positions.max() + 1 - len(ids) == arrays["rope_delta"].item()
    ids = arrays["round1_prompt_ids"]
    first = mrope_positions(len(ids), golden_visuals(ids, grids[:1]), MERGE)
    expected = arrays["round1_position_ids" if "round1_position_ids" in arrays else "position_ids"]
    np.testing.assert_array_equal(first, expected[:, 0, : len(ids)])


@given(length=st.integers(1, 50))
def test_text_counts_up_on_all_axes(length: int) -> None:
    positions = mrope_positions(length, [], MERGE)
    np.testing.assert_array_equal(positions, np.tile(np.arange(length), (3, 1)))


def test_a_picture_has_one_time_and_its_rows_and_columns() -> None:
    assert mrope_positions(10, [picture(2, (1, 4, 6))], MERGE).tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]


def test_each_frame_has_a_time() -> None:
    assert mrope_positions(10, [picture(1, (3, 2, 4))], MERGE).tolist() == [
        [0, 1, 1, 2, 2, 3, 3, 4, 5, 6],
        [0, 1, 1, 1, 1, 1, 1, 4, 5, 6],
        [0, 1, 2, 1, 2, 1, 2, 4, 5, 6],
    ]


def test_pictures_may_touch_and_may_begin() -> None:
    visuals = [picture(0, (1, 2, 2)), picture(1, (1, 2, 4))]
    assert mrope_positions(4, visuals, MERGE).tolist() == [
        [0, 1, 1, 3],
        [0, 1, 1, 3],
        [0, 1, 2, 3],
    ]


def test_tokens_of_a_reencode_are_text() -> None:
    positions = mrope_positions(5, [reencode(1, 3)], MERGE)
    np.testing.assert_array_equal(positions, np.tile(np.arange(5), (3, 1)))
    visuals = [picture(1, (1, 4, 4)), reencode(6, 2), picture(8, (1, 2, 2))]
    np.testing.assert_array_equal(
        mrope_positions(10, visuals, MERGE),
        mrope_positions(10, [visuals[0], visuals[2]], MERGE),
    )


@given(parts=parts, frames=st.integers(1, 3), data=st.data())
def test_what_is_left_of_a_picture_has_the_positions_of_all_of_it(
    parts: list[Part], frames: int, data: st.DataObject
) -> None:
    """And so has the text behind it, where nothing of the picture is left, too."""
    places = list[int]()  # of the whole context: what stands in the other
    whole = list[Visual]()
    visuals = list[Visual]()
    length = 0
    for text, grid in parts:
        places += range(length, length + text)
        length += text
        if grid is None:
            continue
        whole.append(picture(length, (frames, *grid)))
        tokens = whole[-1].encoded.tokens
        left = sorted(data.draw(st.sets(st.integers(0, tokens - 1))))
        values = np.zeros((len(left), 1), np.float32)
        part = Encoded(values, (frames, *grid), places=np.array(left, np.int64))
        visuals.append(Visual(len(places), part))
        places += [length + place for place in left]
        length += tokens
    expected = mrope_positions(length, whole, MERGE)[:, places]
    np.testing.assert_array_equal(mrope_positions(len(places), visuals, MERGE), expected)


@pytest.mark.parametrize("merge", [1, 2, 3])
def test_patches_merge_into_tokens(merge: int) -> None:
    encoded = Encoded(np.zeros((6, 1), np.float32), (1, 2 * merge, 3 * merge))
    positions = mrope_positions(7, [Visual(1, encoded)], merge)
    assert positions[1:, 1:].tolist() == [[1, 1, 1, 2, 2, 2], [1, 2, 3, 1, 2, 3]]


@given(parts=parts, more=parts)
def test_what_follows_changes_no_position(parts: list[Part], more: list[Part]) -> None:
    length, visuals = layout(parts)
    longer, all_visuals = layout(parts + more)
    positions = mrope_positions(longer, all_visuals, MERGE)
    np.testing.assert_array_equal(positions[:, :length], mrope_positions(length, visuals, MERGE))


@given(parts=parts)
def test_text_goes_on_behind_the_largest_position(parts: list[Part]) -> None:
    length, visuals = layout(parts)
    positions = mrope_positions(length + 2, visuals, MERGE)
    start = positions[:, :length].max(initial=-1) + 1
    assert positions[:, length:].tolist() == [[start, start + 1]] * 3


@given(parts=parts)
def test_a_picture_begins_behind_the_text_and_spans_its_grid(parts: list[Part]) -> None:
    length, visuals = layout(parts)
    positions = mrope_positions(length, visuals, MERGE)
    place = 0
    first = 0
    for text, grid in parts:
        place += text
        first += text
        if grid:
            rows = grid[0] // 2
            columns = grid[1] // 2
            block = positions[:, place : place + rows * columns] - first
            expected = [[0, row, column] for row in range(rows) for column in range(columns)]
            assert block.T.tolist() == expected
            place += rows * columns
            first += max(rows, columns)


def test_frequencies_turn_with_time_row_and_column() -> None:
    positions = np.array([[5], [70], [900]])
    cos, sin = mrope(positions, 12, 100.0, (1, 2, 3))
    angles = np.array([5, 70, 70, 900, 900, 900]) / 100.0 ** (np.arange(0, 12, 2) / 12)
    np.testing.assert_allclose(cos[0], np.cos(angles), atol=1e-4)
    np.testing.assert_allclose(sin[0], np.sin(angles), atol=1e-4)
    assert (cos.dtype.name, cos.shape, sin.shape) == ("float32", (1, 6), (1, 6))


def test_interleaved_frequencies_turn_with_each_axis_in_turn() -> None:
    positions = np.array([[5], [70], [900]])
    cos, sin = mrope(positions, 16, 100.0, (4, 2, 2), interleaved=True)
    places = [5, 70, 900, 5, 70, 900, 5, 5]
    turns = np.array(places) / 100.0 ** (np.arange(0, 16, 2) / 16)
    np.testing.assert_allclose(cos[0], np.cos(turns), atol=1e-4)
    np.testing.assert_allclose(sin[0], np.sin(turns), atol=1e-4)


def test_the_frequencies_of_qwen3_vl() -> None:
    """By its [24, 20, 20]: rows at 1, 4, … 58, columns at 2, 5, … 59, time everywhere else."""
    positions = np.array([[0], [1], [2]])
    cos, _ = mrope(positions, 128, 1.0, (24, 20, 20), interleaved=True)  # all frequencies are 1
    axes = np.rint(np.arccos(cos[0])).astype(int).tolist()
    assert axes == [0, 1, 2] * 20 + [0] * 4


@given(start=st.integers(0, 5000), interleaved=st.booleans())
def test_text_turns_alike_however_frequencies_are_dealt_out(start: int, interleaved: bool) -> None:
    positions = np.full((3, 1), start)
    turned = mrope(positions, 128, 5e6, (24, 20, 20), interleaved)
    np.testing.assert_array_equal(turned, mrope(positions, 128, 5e6, (64, 0, 0)))


@given(rows=st.integers(1, 8), columns=st.integers(1, 8), side=st.integers(1, 9))
def test_a_table_is_laid_over_the_picture_corner_on_corner(
    rows: int, columns: int, side: int
) -> None:
    rows *= MERGE
    columns *= MERGE
    taps, shares = table_positions(rows, columns, MERGE, side)
    assert (taps.dtype.name, shares.dtype.name) == ("int64", "float32")
    assert taps.min() == 0
    assert taps.max() == side**2 - 1
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    places = np.indices((side, side)).reshape(2, -1)[:, taps]  # (2, patches, taps)
    found = (places * shares).sum(2).T  # rows and columns of the table
    ends = (np.linspace(0, side - 1, rows), np.linspace(0, side - 1, columns))
    grid = np.stack(np.meshgrid(*ends, indexing="ij"))
    blocks = grid.reshape(2, rows // MERGE, MERGE, columns // MERGE, MERGE)
    expected = blocks.transpose(1, 3, 2, 4, 0).reshape(-1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_table_of_the_pictures_own_size_is_taken_as_it_is() -> None:
    taps, shares = table_positions(4, 4, MERGE, 4)
    assert taps[:, 0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert shares.tolist() == [[1, 0, 0, 0]] * 16


def angles(cos: NDArray[np.float32], sin: NDArray[np.float32]) -> NDArray[np.float64]:
    """The first frequency of each half is the row or column itself."""
    turn = np.arctan2(sin.astype(np.float64), cos.astype(np.float64))
    return turn[:, [0, cos.shape[1] // 2]]


@given(rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_patches_turn_in_merge_order(rows: int, columns: int) -> None:
    cos, sin = vision_rope(2 * rows, 2 * columns, MERGE, 16)
    order = [
        (2 * row + inner_row, 2 * column + inner_column)
        for row in range(rows)
        for column in range(columns)
        for inner_row in range(2)
        for inner_column in range(2)
    ]
    places = np.array(order, np.float64)
    expected = np.arctan2(np.sin(places), np.cos(places))
    np.testing.assert_allclose(angles(cos, sin), expected, atol=1e-3)


def test_the_vision_frequencies_are_those_of_half_a_head() -> None:
    cos, sin = vision_rope(2, 4, MERGE, 16)
    assert (cos.dtype.name, cos.shape, sin.shape) == ("float32", (8, 8), (8, 8))
    frequencies = 1 / 10000 ** (np.arange(0, 8, 2) / 8)
    last = np.concatenate([frequencies, 3 * frequencies])
    np.testing.assert_allclose(cos[7], np.cos(last), atol=1e-6)
    np.testing.assert_allclose(sin[7], np.sin(last), atol=1e-6)
