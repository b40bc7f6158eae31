"""Pictures are numbered, and their clocks put right."""

from __future__ import annotations

import itertools
import time

import numpy as np
from feeds import picture

from vpt_edge.live.frame import ArrayRaster, Frame
from vpt_edge.live.framing import Framing


def test_frames_are_numbered_and_placed() -> None:
    framing = Framing("a camera")
    moment = time.monotonic() - 2.0
    frames = [framing.frame(picture(captured=moment + step)) for step in (0.0, 0.5, 1.0)]
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert np.allclose([frame.position for frame in frames], [0.0, 0.5, 1.0])
    assert [frame.monotonic for frame in frames] == [moment, moment + 0.5, moment + 1.0]
    assert frames[0].source == "a camera"
    assert frames[0].age >= 2.0
    assert abs((time.time() - frames[0].time) - frames[0].age) < 1.0


def test_the_time_stamps_of_a_clip_are_kept() -> None:
    assert Framing("clip").frame(picture(position=7.5)).position == 7.5


def test_a_clock_that_jumps_is_put_right() -> None:
    framing = Framing("a camera")
    moment = time.monotonic() - 9.0
    steps = (0.0, 1.0, -100.0, 1e9, 2.0)
    frames = [framing.frame(picture(captured=moment + step)) for step in steps]
    for before, after in itertools.pairwise(frames):
        assert before.monotonic <= after.monotonic <= time.monotonic()
        assert before.position <= after.position
    assert frames[2].monotonic == moment + 1.0


def test_a_frame_stays_one() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = 9
    frame = Frame(41, 1.5, 100.0, 50.0, "elsewhere", ArrayRaster(pixels), {"a?": "b"})
    kept = Framing("here", "horizontal").frame(frame)
    assert (kept.number, kept.position, kept.time, kept.monotonic) == (41, 1.5, 100.0, 50.0)
    assert (kept.source, kept.truth) == ("elsewhere", {"a?": "b"})
    assert kept.pixels[0, 2].tolist() == [9, 9, 9]
