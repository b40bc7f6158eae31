"""Pairs of frames as one visual, and the positions of what is kept of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.context import Encoded, Visual
from vpt_edge.runtime.positions import mrope_positions
from vpt_edge.runtime.processor import MERGE
from vpt_edge.runtime.scene import join_pairs
from vpt_edge.runtime.still import keep_tokens

PAIRS = 3
GRID = (1, 4, 6)
TOKENS = 6


def pairs() -> list[Encoded]:
    features = np.arange(PAIRS * TOKENS, dtype=np.float32).reshape(PAIRS, TOKENS, 1)
    return [Encoded(each, GRID) for each in features]


def positions(visual: Visual, behind: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return mrope_positions(visual.end + behind, [visual], MERGE)


def test_times_are_counted_or_given() -> None:
    joined = join_pairs(pairs())
    assert (joined.grid, joined.tokens, joined.places) == ((3, 4, 6), 18, None)
    assert positions(Visual(1, joined), 1)[0, 1::6].tolist() == [1, 2, 3, 4]
    given_times = join_pairs(pairs(), (0, 4, 9))
    found = positions(Visual(1, given_times), 2)
    assert found[0, 1:19:6].tolist() == [1, 5, 10]
    assert found[:, 19:].tolist() == [[11, 12]] * 3  # behind the last moment, which is the largest


@given(st.data())
def test_what_is_kept_keeps_its_positions_and_so_does_the_text(data: st.DataObject) -> None:
    times = data.draw(st.sampled_from((None, (0, 1, 2), (0, 4, 9))))
    whole = pairs()
    shown = list[Encoded]()
    kept = list[int]()
    for number, pair in enumerate(whole):
        places = sorted(data.draw(st.sets(st.integers(0, TOKENS - 1))))
        if number == 0 or data.draw(st.booleans()):
            places = list(range(TOKENS))
            shown.append(pair)
        else:
            shown.append(keep_tokens(pair, np.array(places, np.int64)))
        kept += [number * TOKENS + place for place in places]
    unpruned = Visual(2, join_pairs(whole, times))
    pruned = Visual(2, join_pairs(shown, times))
    np.testing.assert_array_equal(pruned.encoded.features[:, 0], kept)
    expected = positions(unpruned, 3)
    found = positions(pruned, 3)
    np.testing.assert_array_equal(found[:, 2 : pruned.end], expected[:, 2:][:, kept])
    np.testing.assert_array_equal(found[:, pruned.end :], expected[:, unpruned.end :])
