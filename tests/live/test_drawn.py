"""Drawn pictures come as from a camera."""

from __future__ import annotations

import numpy as np
import pytest
from feeds import wait_for

from vpt_edge import live
from vpt_edge.live.source import each_frame
from vpt_edge.live.testsrc import PATTERNS, TestPattern
from vpt_edge.runtime.errors import SourceError


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_the_same_at_the_same_moment(pattern: str) -> None:
    for width, height in ((64, 48), (7, 5), (1, 1)):
        pixels = TestPattern(pattern, width, height).pixels(1.3)
        assert pixels.shape == (height, width, 3) and pixels.dtype == np.uint8
        assert np.array_equal(pixels, TestPattern(pattern, width, height).pixels(1.3))


@pytest.mark.parametrize("pattern", ["ball", "noise"])
def test_what_moves_moves(pattern: str) -> None:
    drawing = TestPattern(pattern, 64, 48)
    assert not np.array_equal(drawing.pixels(0.0), drawing.pixels(0.5))


def test_a_pattern_is_a_camera() -> None:
    source = live.open("testsrc://?pattern=noise&width=32&height=24&rate=200")
    assert source.live
    for number, frame in zip(range(3), each_frame(source), strict=False):
        assert frame.pixels.shape == (24, 32, 3)
        assert frame.number >= number
        assert frame.position == pytest.approx(round(frame.position * 200) / 200)
        assert frame.source == "testsrc://noise"
    wait_for(source, lambda: source.counts.frames > 20)
    assert source.counts.losses == 0
    source.close()


def test_options_stand_before_the_address() -> None:
    source = live.open("testsrc://?width=32&height=24", width=16, height=8, rate=100)
    wait_for(source, lambda: source.counts.frames > 0)
    frame = source.poll()
    assert frame is not None and frame.pixels.shape == (8, 16, 3)
    source.close()


def test_scenes_come_with_their_truth() -> None:
    source = live.open("scenes://?seed=3&rate=50")
    wait_for(source, lambda: source.counts.frames > 0)
    frame = source.poll()
    assert frame is not None and frame.truth
    assert frame.pixels.shape == (512, 512, 3)
    source.close()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("testsrc://?pattern=cat", "no pattern cat, expected ball, bars, black, noise"),
        ("testsrc://?size=3", "does not take size in its address, it takes pattern, width"),
        ("testsrc://?width=wide&height=3", "width of testsrc:// is wide"),
        ("testsrc://?width=3", "width and height are given together"),
        ("testsrc://?rate=0", "rate is 0.0"),
        ("testsrc://?rate=nan", "rate is nan"),
        ("scenes://?rate=-1", "rate is -1"),
        ("scenes://?hold=0", "hold is 0"),
    ],
)
def test_what_cannot_be_drawn_is_said(address: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        live.open(address)
