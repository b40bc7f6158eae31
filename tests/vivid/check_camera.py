"""In the virtual machine: a Video4Linux camera that works, is unplugged, silent, or taken."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from vpt_edge import live
from vpt_edge.live import Frame, Source
from vpt_edge.runtime.errors import SourceError

DEVICE = "/dev/video0"
LONG = 120.0  # seconds; an emulated machine is slow
SMALL: dict[str, Any] = {"width": 320, "height": 180}


def control(name: str, value: int) -> None:
    """Set one of vivid's controls; what it injects it injects from then on."""
    subprocess.run(["v4l2-ctl", "-d", DEVICE, "-c", f"{name}={value}"], check=True)


@pytest.fixture(autouse=True)
def whole() -> Iterator[None]:
    control("osd_text_mode", 2)  # no text in the picture
    yield
    control("percentage_of_dropped_buffers", 0)


def wait_until(source: Source, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, (source.state, source.problem)
        time.sleep(0.05)


def next_frame(source: Source) -> Frame:
    frames = list[Frame]()

    def comes() -> bool:
        frame = source.poll()
        if frame is not None:
            frames.append(frame)
        return bool(frames)

    wait_until(source, comes)
    return frames[0]


def test_frames_come() -> None:
    with live.open(DEVICE, **SMALL) as source:
        first = next_frame(source)
        second = next_frame(source)
    assert first.pixels.shape == (180, 320, 3)
    bars = first.pixels[90, 20::40]  # white, yellow, cyan, green, magenta, red, blue, black
    brightness = bars @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) < 0).all(), bars
    assert second.number > first.number
    assert first.monotonic < second.monotonic <= time.monotonic()  # by the driver's own stamps


def test_a_number_is_a_camera() -> None:
    with live.open(0, **SMALL) as source:
        next_frame(source)
        assert source.name == DEVICE


def test_one_that_is_unplugged_is_lost_and_comes_back() -> None:
    """vivid plugs it in again when nobody holds it open any more."""
    with live.open(DEVICE, **SMALL) as source:
        next_frame(source)
        control("disconnect", 0)
        wait_until(source, lambda: source.counts.losses == 1)
        problem = source.problem
        wait_until(source, lambda: source.counts.opens == 2)
        next_frame(source)
    assert problem is None or "was unplugged" in str(problem)


def test_one_that_is_silent_is_stalled_and_comes_back() -> None:
    with live.open(DEVICE, **SMALL, stall=5.0) as source:
        next_frame(source)
        control("percentage_of_dropped_buffers", 100)
        wait_until(source, lambda: source.state in ("stalled", "lost"))
        assert "gave no picture" in str(source.problem)
        control("percentage_of_dropped_buffers", 0)
        wait_until(source, lambda: source.counts.opens == 2)
        next_frame(source)


def test_a_silent_one_is_closed() -> None:
    control("percentage_of_dropped_buffers", 100)
    source = live.open(DEVICE, **SMALL)
    time.sleep(2)
    source.close()
    control("percentage_of_dropped_buffers", 0)
    with live.open(DEVICE, **SMALL) as another:  # nobody holds it
        next_frame(another)


def test_a_rate_that_is_not_offered_is_said() -> None:
    with (
        pytest.warns(UserWarning, match=r"gives [\d.]+ pictures a second, not 30"),
        live.open(DEVICE, width=1920, height=1080, rate=30) as source,
    ):
        next_frame(source)


def test_a_codec_that_is_not_offered_is_refused() -> None:
    with (
        live.open(DEVICE, **SMALL, codec="mjpeg") as source,
        pytest.raises(SourceError, match=r"does not offer.*v4l2-ctl -d /dev/video0"),
    ):
        next_frame(source)


def test_a_second_reader_is_told_that_it_is_taken() -> None:
    with live.open(DEVICE, **SMALL) as source:
        next_frame(source)
        with live.open(DEVICE, **SMALL) as second:
            wait_until(second, lambda: second.problem is not None)
            assert "is used by another program" in str(second.problem)
            next_frame(source)
            source.close()
            next_frame(second)


def test_a_device_that_is_not_there() -> None:
    with (
        live.open("/dev/video9") as source,
        pytest.raises(SourceError, match=r"there is no camera.*cameras of this machine: /dev/vid"),
    ):
        next_frame(source)
