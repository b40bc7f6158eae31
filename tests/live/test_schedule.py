"""Which frames are asked about, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import BLACK, clip, frame

from vpt_edge.live.schedule import Schedule
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from vpt_edge.live.frame import Frame

WHITE = np.full_like(BLACK, 255)


def numbers(schedule: Schedule, frames: Iterable[Frame]) -> tuple[list[int], Counter[str]]:
    """The frames that are asked about, and how often each objection was made."""
    asked = []
    objections = Counter[str]()
    for each in frames:
        objection = schedule.find_objection(each)
        if objection is None:
            asked.append(each.number)
            schedule.ask(each)
        else:
            objections[objection] += 1
    return asked, objections


def test_each_frame() -> None:
    assert numbers(Schedule(every=0), clip(5)) == ([0, 1, 2, 3, 4], Counter())


def test_every_two_seconds_of_the_source() -> None:
    asked, objections = numbers(Schedule(), clip(126))
    assert asked == [0, 50, 100]
    assert objections == {"every": 123}


@given(st.floats(1, 120), st.floats(0.05, 5))
def test_frames_that_come_late_do_not_add_up(rate: float, every: float) -> None:
    """Behind each tick of the grid the first frame: never two in one tick, none left out."""
    frames = [frame(number, position=number / rate) for number in range(400)]
    asked, _ = numbers(Schedule(every), frames)
    ticks = [int((number / rate + 1e-6) / every) for number in asked]
    assert ticks == sorted(set(ticks))
    assert set(ticks) == {int((each.position + 1e-6) / every) for each in frames}


def test_on_change_asks_about_what_is_new() -> None:
    frames = [frame(number, WHITE if 3 <= number < 6 else BLACK) for number in range(9)]
    asked, objections = numbers(Schedule(every=0, on_change=True), frames)
    assert asked == [0, 3, 6]
    assert objections == {"gate": 6}


def test_a_change_that_comes_too_soon_is_asked_about_when_it_is_time() -> None:
    frames = [frame(number, WHITE if number >= 1 else BLACK) for number in range(60)]
    asked, objections = numbers(Schedule(every=1, on_change=0.06), frames)
    assert asked == [0, 25]
    assert objections == {"every": 24 + 24, "gate": 10}


def test_a_longest_silence_ends() -> None:
    asked, _ = numbers(Schedule(every=0, on_change=0.06, longest_silence=1), clip(60))
    assert asked == [0, 25, 50]


def test_a_clip_that_begins_anew_is_asked_about_again() -> None:
    asked, _ = numbers(Schedule(every=1), [*clip(30), *clip(30)])
    assert asked == [0, 25, 0, 25]


def test_the_first_two_questions_are_as_far_apart_as_others() -> None:
    late = [frame(number, position=1.97 + number / 100) for number in range(300)]
    assert numbers(Schedule(every=2), late)[0] == [0, 200]


def test_the_numbers_of_a_camera_do_not_matter() -> None:
    late = [frame(0, position=7.0), frame(1, position=7.9), frame(2, position=8.1)]
    assert numbers(Schedule(every=1), late)[0] == [0, 2]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "every 2 s"),
        ({"every": 0}, "each frame"),
        ({"every": 0.5, "on_change": True}, "every 0.5 s, on change of 0.06"),
        (
            {"every": 0, "on_change": 0.1, "longest_silence": 60},
            "each frame, on change of 0.1, at the latest after 60 s",
        ),
    ],
)
def test_a_schedule_has_a_name(options: dict[str, Any], name: str) -> None:
    assert Schedule(**options).name == name


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"every": -1}, "every is -1, expected seconds"),
        ({"every": float("inf")}, "every is inf"),
        ({"every": float("nan")}, "every is nan"),
        ({"on_change": 0}, "on_change is 0, expected a share between 0 and 1"),
        ({"on_change": 1.5}, "on_change is 1.5"),
        ({"on_change": float("nan")}, "on_change is nan"),
        ({"longest_silence": 5}, "a longest silence needs on_change"),
        ({"on_change": True, "longest_silence": 0}, "longest_silence is 0"),
        ({"on_change": True, "longest_silence": float("nan")}, "longest_silence is nan"),
    ],
)
def test_what_makes_no_schedule(options: dict[str, Any], text: str) -> None:
    with pytest.raises(VptError, match=text):
        Schedule(**options)
