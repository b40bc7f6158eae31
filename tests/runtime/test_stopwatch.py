"""Seconds and runs by stage, and waits, on a clock that is moved by hand."""

from __future__ import annotations

import time

import pytest

from vpt_edge.runtime.stopwatch import STAGES, Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)
    return clock


def test_it_begins_with_nothing() -> None:
    stopwatch = Stopwatch()
    assert STAGES == ("preprocess", "vision", "reencode", "prefill", "decode")
    assert stopwatch.seconds == dict.fromkeys(STAGES, 0.0)
    assert stopwatch.runs == dict.fromkeys(STAGES, 0)
    assert stopwatch.first_token_seconds == []


def test_a_stage_sums_its_blocks(clock: Clock) -> None:
    stopwatch = Stopwatch()
    for seconds in (2.0, 3.0):
        clock.now += 50  # between the blocks
        with stopwatch.stage("vision"):
            clock.now += seconds
    with stopwatch.stage("decode"):
        clock.now += 1
    assert stopwatch.seconds == {**dict.fromkeys(STAGES, 0.0), "vision": 5.0, "decode": 1.0}
    assert stopwatch.runs == {**dict.fromkeys(STAGES, 0), "vision": 2, "decode": 1}


def test_a_block_that_fails_counts_too(clock: Clock) -> None:
    stopwatch = Stopwatch()

    def fail() -> None:
        with stopwatch.stage("prefill"):
            clock.now += 4
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert (stopwatch.seconds["prefill"], stopwatch.runs["prefill"]) == (4.0, 1)


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(KeyError), Stopwatch().stage("lunch"):
        pass


def test_each_turn_waits_from_the_last_token_on(clock: Clock) -> None:
    stopwatch = Stopwatch()
    clock.now += 7  # before the request begins
    stopwatch.begin()
    clock.now += 2
    stopwatch.token_arrived(0)
    for _ in range(3):
        clock.now += 1
        stopwatch.token_arrived(0)
    clock.now += 5
    stopwatch.token_arrived(1)
    clock.now += 1
    stopwatch.token_arrived(1)
    assert stopwatch.first_token_seconds == [2.0, 5.0]
