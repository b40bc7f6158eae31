"""Streaming statistics and the thresholds that range methods take from them."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpt_edge.calibration.ranges import (
    BINS,
    RANGE_METHODS,
    Statistics,
    entropy,
    minmax,
    mse,
    percentile,
)

RangeMethod = Callable[[Statistics], float]


def seen(*tensors: np.ndarray) -> Statistics:
    statistics = Statistics(tensors[0].shape[-1])
    for tensor in tensors:
        statistics.observe(tensor.astype(np.float32))
    return statistics


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_statistics_do_not_depend_on_how_the_rows_are_parted(sizes: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((5, 4)) * size for size in sizes]
    whole, parted = seen(np.concatenate(parts)), seen(*parts)
    np.testing.assert_array_equal(whole.maxima, parted.maxima)
    np.testing.assert_allclose(whole.squares, parted.squares, rtol=1e-12)
    assert whole.bins.sum() == parted.bins.sum() == 20 * len(sizes)
    assert whole.top == parted.top
    np.testing.assert_array_equal(whole.bins, parted.bins)


def test_statistics_survive_json_to_the_bit() -> None:
    statistics = seen(np.random.default_rng(0).standard_normal((100, 7)) * 3)
    again = Statistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
    for name in ("bins", "maxima", "squares"):
        np.testing.assert_array_equal(getattr(again, name), getattr(statistics, name))
    assert (again.count, again.top) == (statistics.count, statistics.top)


def test_memory_does_not_grow_with_what_is_observed() -> None:
    few, many = (seen(*[np.full((3, 4), 2.0**i) for i in range(count)]) for count in (2, 60))
    assert few.bins.size == many.bins.size == BINS


def test_zeros_are_a_range_too() -> None:
    statistics = seen(np.zeros((3, 2)), np.zeros((3, 2)))
    assert [threshold(statistics) for threshold in RANGE_METHODS.values()] == [0.0] * len(
        RANGE_METHODS
    )
    statistics.observe(np.ones((1, 2), np.float32))
    assert minmax(statistics) == 1
    assert statistics.bins.sum() == 14


@pytest.fixture(scope="module")
def outlier() -> Statistics:
    """A bell of width 1 with one value in a hundred thousand at 60."""
    values = np.random.default_rng(1).standard_normal((100_000, 2))
    values[7, 0] = 60
    return seen(values)


def test_minmax_keeps_the_outlier(outlier: Statistics) -> None:
    assert minmax(outlier) == 60


@pytest.mark.parametrize(("threshold", "most"), [(mse, 35), (entropy, 15)])
def test_clipping_methods_cut_the_outlier(
    threshold: RangeMethod, most: float, outlier: Statistics
) -> None:
    assert 3 < threshold(outlier) < most


def test_percentile_leaves_its_share_outside(outlier: Statistics) -> None:
    assert percentile(outlier, 0.99) == pytest.approx(2.58, abs=0.06)
    assert percentile(outlier, 1.0) == 60


def test_mse_finds_the_least_error(outlier: Statistics) -> None:
    """The threshold is as good as the best of a fine search over the true values."""
    values = np.abs(np.random.default_rng(1).standard_normal((100_000, 2))).ravel()
    values[14] = 60

    def error(threshold: float) -> float:
        step = threshold / 127
        return float(np.square(np.minimum(np.round(values / step), 127) * step - values).sum())

    best = min(error(threshold) for threshold in np.linspace(2, 60, 200))
    assert error(mse(outlier)) <= 1.05 * best


@given(st.integers(1, 90), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_what_is_divided_later_is_what_was_divided_before(rows: int, seed: int) -> None:
    """Maxima and squares; the rows are more than are observed at a time."""
    rng = np.random.default_rng(seed)
    tensor = rng.standard_normal((rows, 5)).astype(np.float32)
    divisor = rng.uniform(0.1, 10, 5)
    before = Statistics(5)
    before.observe(tensor, divisor)
    after = seen(tensor).divided(divisor)
    np.testing.assert_allclose(before.maxima, np.abs(tensor / divisor).max(0), rtol=1e-12)
    np.testing.assert_allclose(after.maxima, before.maxima, rtol=1e-12)
    np.testing.assert_allclose(after.mean_squares, before.mean_squares, rtol=1e-12)
    assert before.bins.sum() == tensor.size
    assert after.count == before.count == rows
