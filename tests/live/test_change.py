"""A small thing that comes and goes is seen; noise and flicker are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sources import frame

from vpt_edge.live.change import HEIGHT, THRESHOLD, WIDTH, ChangeGate, largest_change

SIDE = (180, 320, 3)  # height, width, channels
LUMA = arrays(np.uint8, (HEIGHT, WIDTH))
SEEDS = st.integers(0, 2**32 - 1)


def scene(level: float, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """A gradient from ``level`` on, with noise of so many steps."""
    slope = np.linspace(level, level + 80, SIDE[1])[None, :, None]
    values = slope + np.random.default_rng(seed).normal(0, noise, SIDE)
    return np.clip(values, 0, 255).round().astype(np.uint8)


@given(LUMA, LUMA)
def test_a_change_is_a_share_and_the_same_both_ways(one: np.ndarray, other: np.ndarray) -> None:
    change = largest_change(one, other)
    assert 0 <= change <= 1
    assert change == largest_change(other, one)
    assert largest_change(one, one) == 0


@given(st.integers(0, 255), st.integers(0, 255))
def test_the_same_change_everywhere_is_its_size(one: int, other: int) -> None:
    plain = np.full((HEIGHT, WIDTH), one, np.uint8)
    assert largest_change(plain, np.full_like(plain, other)) == pytest.approx(
        abs(one - other) / 255
    )


@given(LUMA, st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1))
def test_one_place_counts_in_its_cell_alone(one: np.ndarray, row: int, column: int) -> None:
    other = one.copy()
    other[row, column] ^= 255
    change = abs(int(other[row, column]) - int(one[row, column]))
    assert largest_change(one, other) == pytest.approx(change / 255 / 16)


def test_cells_are_where_they_are() -> None:
    """A change of four times sixteen places: in one cell, or shared by four."""
    one = np.zeros((HEIGHT, WIDTH), np.uint8)
    inside = one.copy()
    inside[32:36, 60:64] = 255  # the last cell
    across = one.copy()
    across[30:34, 58:62] = 255
    assert largest_change(one, inside) == 1
    assert largest_change(one, across) == 0.25


@settings(max_examples=40)
@given(SEEDS, SEEDS, st.integers(20, 160))
def test_noise_is_not_seen(one: int, other: int, level: int) -> None:
    """Of a sensor: sigma 3 of 255, in a picture of 320x180."""
    gate = ChangeGate()
    gate.remember(frame(0, scene(level, one, 3)))
    assert not gate.is_open(frame(1, scene(level, other, 3)))


@given(st.integers(20, 160), st.floats(-0.03, 0.03), st.floats(-0.03, 0.03))
def test_flicker_is_not_seen(level: int, one: float, other: float) -> None:
    """Of a lamp: 3 % brighter or darker than it should be."""
    gate = ChangeGate()
    gate.remember(frame(0, (scene(level) * (1 + one)).astype(np.uint8)))
    assert not gate.is_open(frame(1, (scene(level) * (1 + other)).astype(np.uint8)))


@given(st.integers(0, 320 - 16), st.integers(0, 180 - 12))
def test_a_small_thing_is_seen_wherever_it_is(left: int, top: int) -> None:
    """0.33 % of the picture, as 64x48 of 1280x720; and that it has gone."""
    shown = scene(20)
    shown[top : top + 12, left : left + 16] = 255
    gate = ChangeGate()
    empty = frame(0, scene(20))
    gate.remember(empty)
    crossing = frame(1, shown)
    assert gate.is_open(crossing)
    gate.remember(crossing)
    assert not gate.is_open(crossing)
    assert gate.is_open(empty)


def test_a_slow_change_is_seen_in_the_end() -> None:
    """Each frame is held against the one that was asked about, not against the one before it."""
    gate = ChangeGate()
    gate.remember(frame(0, scene(20)))
    opened = [level for level in range(20, 60) if gate.is_open(frame(0, scene(level)))]
    assert opened == list(range(20 + round(THRESHOLD * 255 + 0.5), 60))


def test_the_first_frame_is_let_through() -> None:
    assert ChangeGate().is_open(frame(0))
