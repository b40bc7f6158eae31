"""Which visual tokens did not change, by their pixels and by their features."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.image import Patches
from vpt_edge.runtime.still import find_changed_features, find_changed_pixels, keep_tokens

TOKENS = 12
WIDTH = 24
GRID = (1, 6, 8)  # patches of them


def patches(seed: int) -> Patches:
    values = np.random.default_rng(seed).normal(size=(TOKENS * 4, WIDTH)).astype(np.float32)
    return Patches(values, GRID)


@given(changed=st.sets(st.integers(0, TOKENS - 1)), by=st.floats(0.01, 2), seed=st.integers(0, 9))
def test_what_changed_by_the_limit_is_found_and_nothing_else(
    changed: set[int], by: float, seed: int
) -> None:
    before = patches(seed)
    values = before.values.reshape(TOKENS, 4, WIDTH).copy()
    for token in changed:
        values[token] += by
    now = Patches(values.reshape(before.values.shape), GRID)
    assert find_changed_pixels(now, before, by * 0.99).tolist() == sorted(changed)
    assert find_changed_pixels(now, before, by * 1.01).tolist() == []
    assert find_changed_pixels(now, before, 0).tolist() == list(range(TOKENS))


def test_a_change_of_one_patch_counts_for_its_token() -> None:
    before = patches(0)
    values = before.values.copy()
    values[4 * 5 + 3] += 1  # the last patch of the sixth token
    now = Patches(values, GRID)
    assert find_changed_pixels(now, before, 0.24).tolist() == [5]
    assert find_changed_pixels(now, before, 0.26).tolist() == []


@given(limit=st.floats(-0.9, 0.9), seed=st.integers(0, 9))
def test_features_are_compared_by_their_angle(limit: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    before = random.normal(size=(TOKENS, WIDTH)).astype(np.float32)
    now = random.normal(size=(TOKENS, WIDTH)).astype(np.float32)
    cosine = [
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for a, b in zip(now, before, strict=True)
    ]
    expected = [place for place, value in enumerate(cosine) if value <= limit]
    assert find_changed_features(now, before, limit).tolist() == expected
    assert find_changed_features(now * 3, before, limit).tolist() == expected


def test_features_of_nothing_are_never_alike() -> None:
    nothing = np.zeros((2, 3), np.float32)
    assert find_changed_features(nothing, nothing, 0.0).tolist() == [0, 1]


def test_deep_features_are_kept_of_the_same_tokens() -> None:
    features = np.arange(TOKENS * 2, dtype=np.float32).reshape(TOKENS, 2)
    deep = np.stack((features + 100, features + 200))
    places = np.array([1, 5])
    kept = keep_tokens(Encoded(features, GRID, deep), places)
    assert (kept.tokens, kept.grid) == (2, GRID)
    assert kept.places is places and kept.deep is not None
    np.testing.assert_array_equal(kept.features, features[places])
    np.testing.assert_array_equal(kept.deep, deep[:, places])
