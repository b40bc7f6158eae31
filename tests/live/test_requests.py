"""Requests wait in a line that has an end, for a frame that is newer."""

from __future__ import annotations

import time

from sources import frame

from vpt_edge.live.requests import SIZE, Request, Requests


def test_the_oldest_gets_the_first_frame_that_is_no_older() -> None:
    requests = Requests()
    first = Request("A?", 10.0)
    requests.put(first)
    requests.put(Request(None, 11.0))
    assert requests.take(frame(0, monotonic=9.9)) is None
    assert requests.take(frame(1, monotonic=10.0)) is first
    assert requests.take(frame(1, monotonic=10.0)) is None
    assert len(requests) == 1


def test_where_there_is_no_room_another_one_is_dropped() -> None:
    requests = Requests()
    room = [requests.put(Request(str(number))) for number in range(SIZE + 3)]
    assert room == [True] * SIZE + [False] * 3
    assert (requests.count, requests.dropped, len(requests)) == (SIZE + 3, 3, SIZE)
    newest = frame(0, monotonic=time.monotonic())
    asked = [requests.take(newest) for _ in range(SIZE + 1)]
    assert asked[0] is not None and asked[0].question == "0"
    assert asked[SIZE] is None
