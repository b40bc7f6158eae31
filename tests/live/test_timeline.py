"""Positions grow, whatever the time stamps do."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.live.timeline import LONGEST, STEP, Timeline


def places(*stamps: float | None) -> list[float]:
    timeline = Timeline()
    return [round(timeline.place(stamp), 3) for stamp in stamps]


def test_good_stamps_are_kept_from_the_first_on() -> None:
    assert places(100.0, 100.5, 102.0) == [0.0, 0.5, 2.0]


def test_a_clip_that_begins_again_goes_on() -> None:
    step = round(STEP, 3)
    assert places(0.0, 1.0, 0.0, 1.0) == [0.0, 1.0, 1.0 + step, 2.0 + step]


def test_stamps_that_are_missing_count_a_step() -> None:
    assert places(None, None, 5.0) == [0.0, round(STEP, 3), 5.0]


def test_a_time_lapse_keeps_its_gaps_and_a_jump_does_not() -> None:
    assert places(0.0, 600.0) == [0.0, 600.0]
    assert places(0.0, 1.0, 95443.7, 95444.7) == [0.0, 1.0, 1.033, 2.033]


STAMPS = st.one_of(st.none(), st.floats(-1e6, 1e6))


@given(st.lists(STAMPS, max_size=30))
def test_positions_grow_by_a_bounded_step(stamps: list[float | None]) -> None:
    timeline = Timeline()
    positions = [timeline.place(stamp) for stamp in stamps]
    for before, after in itertools.pairwise(positions):
        assert before < after <= before + LONGEST + 1e-3
