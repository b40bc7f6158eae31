"""Weights rounded to INT8 and INT4."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpt_edge.export.quantization import rounding
from vpt_edge.export.quantization.rounding import int4_weight, int8_weight

INPUTS = 128
OUTPUTS = 24


def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((INPUTS, OUTPUTS)).astype(np.float32)


def test_int8_is_symmetric_a_channel() -> None:
    integers, scale = int8_weight(weight(), axis=1)
    assert integers.dtype == np.int8
    assert np.abs(integers * scale - weight()).max() <= 0.5 * scale.max() + 1e-6
    turned, same = int8_weight(weight().T, axis=0)
    np.testing.assert_array_equal(turned.T, integers)
    np.testing.assert_array_equal(same, scale)


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([1, 7, 1 << 18]),
    st.integers(0, 2**32 - 1),
)
def test_int8_uses_its_range_as_far_as_pairs_allow(
    inputs: int, outputs: int, numbers: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((inputs, outputs)) * np.exp(random.normal(0, 2, (inputs, 1)))
    with mock.patch.object(rounding, "NUMBERS", numbers):
        integers, _ = int8_weight(matrix.astype(np.float32), axis=1)
    padded = np.pad(integers.astype(int), ((0, inputs % 2), (0, 0)))
    sums = np.abs(padded.reshape(-1, 2, outputs).sum(1)).max(0)
    assert np.abs(integers.astype(int)).max() <= 127
    assert sums.max() <= 128
    assert (np.maximum(sums, np.abs(integers.astype(int)).max(0)) >= 126).all()


def test_a_channel_of_zeros_has_a_scale() -> None:
    integers, scale = int8_weight(np.zeros((4, 2), np.float32), axis=1)
    assert not integers.any()
    assert (scale > 0).all()


@pytest.mark.parametrize("block", [32, 64, 128])
def test_int4_is_at_least_as_good_as_rounding_to_the_extreme(block: int) -> None:
    importance = np.ones(INPUTS, np.float32)
    integers, scales = int4_weight(weight(), block, importance)
    assert integers.min() >= -8
    assert integers.max() <= 7
    rounded = integers * np.repeat(scales, block, axis=0)
    blocks = weight().reshape(-1, block, OUTPUTS)
    plain = np.abs(blocks).max(1, keepdims=True) / 7
    naive = np.clip(np.round(blocks / plain), -8, 7) * plain
    assert np.square(rounded - weight()).sum() < np.square(naive - blocks).sum()


def test_int4_spends_its_error_where_little_flows() -> None:
    importance = np.ones(INPUTS, np.float32)
    importance[::2] = 1000
    loud, even = (
        int4_weight(weight(), 64, share) for share in (importance, np.ones(INPUTS, np.float32))
    )
    errors = [
        np.square(q * np.repeat(s, 64, axis=0) - weight())[::2].sum() for q, s in (loud, even)
    ]
    assert errors[0] < errors[1]
