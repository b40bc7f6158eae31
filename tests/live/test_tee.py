"""Frames for two: each to one, the newest to the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sources import CameraSource, ClipSource, clip, frame

from vpt_edge.live.source import each_frame
from vpt_edge.live.tee import Tee
from vpt_edge.runtime.errors import SourceError


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_each_frame_of_a_file_goes_to_both() -> None:
    delivered = list[Any]()
    frames = clip(5)
    tee = Tee(ClipSource(frames), delivered.append)
    assert list(each_frame(tee)) == frames
    assert delivered == frames
    assert not tee.live
    assert tee.counts.frames == 5


def test_a_camera_gives_each_to_one_and_the_newest_to_the_other() -> None:
    camera = CameraSource()
    delivered = list[Any]()
    tee = Tee(camera, delivered.append)
    frames = clip(5, source="camera")
    for number, each in enumerate(frames):
        camera.show(each)
        wait_for(lambda number=number: len(delivered) == number + 1)  # type: ignore[misc]
    wait_for(lambda: tee.counts.dropped == 4)
    assert delivered == frames
    assert tee.poll() is frames[-1]
    assert tee.poll() is None
    assert (tee.name, tee.live, tee.counts.frames) == ("camera", True, 5)


def test_who_listens_is_told_behind_the_frame() -> None:
    camera = CameraSource()
    tee = Tee(camera, lambda frame: None)
    changed = threading.Event()
    tee.listen(changed.set)
    seen = list[int]()
    for number in range(20):
        changed.clear()
        camera.show(frame(number))
        while (shown := tee.poll()) is None:
            assert changed.wait(5)
            changed.clear()
        seen.append(shown.number)
    assert seen == list(range(20))


def test_its_end_is_the_end() -> None:
    camera = CameraSource()
    tee = Tee(camera, lambda frame: None)
    threads = threading.active_count()
    camera.show(frame(0))
    states = list[str]()
    with tee:
        camera.enter("lost")
        states.append(tee.state)
    assert [*states, tee.state] == ["lost", "ended"]
    assert [each.number for each in each_frame(tee)] in ([0], [])
    wait_for(lambda: threading.active_count() < threads)


def test_a_source_that_fails_is_told_to_who_polls() -> None:
    camera = CameraSource()

    def poll() -> Any:
        raise SourceError("the password is wrong")

    camera.poll = poll  # type: ignore[method-assign]
    tee = Tee(camera, lambda frame: None)
    changed = threading.Event()
    tee.listen(changed.set)
    wait_for(lambda: tee._failure is not None)
    with pytest.raises(SourceError, match="the password is wrong"):
        tee.poll()


def test_a_recorder_that_is_slow_drops_nothing_of_the_camera() -> None:
    """Whoever delivers slowly loses his own frames: the source keeps its newest."""
    camera = CameraSource()
    free = threading.Event()
    tee = Tee(camera, lambda frame: free.wait())
    for number in range(10):
        camera.show(frame(number))
    free.set()
    wait_for(lambda: tee._newest is not None and tee._newest.number == 9)
    assert camera.counts.frames == 10
