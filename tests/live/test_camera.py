"""A Video4Linux camera, scripted: no kernel here has a virtual one. What is scripted was seen with
the vivid driver in a virtual machine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from feeds import PATIENCE, wait_for

from vpt_edge import live
from vpt_edge.live import camera, reader
from vpt_edge.live.feed import PermanentError
from vpt_edge.live.source import Source, each_frame
from vpt_edge.runtime.errors import SourceError

Packets = Iterator["Given"]
Demux = Callable[[], Packets]


@dataclass
class Given:
    """A packet in the driver's memory."""

    data: bytes
    pts: int
    stream: Any = field(default_factory=lambda: SimpleNamespace(index=0))
    dts: int | None = None
    time_base: Fraction = Fraction(1, 1000)

    def __bytes__(self) -> bytes:
        return self.data

    @property
    def size(self) -> int:
        return len(self.data)


class Driver:
    """What av.open opens: a device with its sizes and rates, and how it fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.size = (64, 48)
        self.rate = Fraction(30)
        self.failure: Exception | None = None
        self.demux: Demux = self.give
        self.calls = list[dict[str, Any]]()
        self.given = list[Given]()
        self.decoded = list[Any]()
        self.closed = 0
        monkeypatch.setattr(av, "open", self.open)

    def open(self, name: str, **arguments: Any) -> Any:
        self.calls.append({"name": name, **arguments})
        if self.failure is not None:
            raise self.failure
        width, height = self.size
        codec: Any = av.CodecContext.create("rawvideo", "r")
        codec.width = width
        codec.height = height
        codec.pix_fmt = "rgb24"

        def decode(packet: Any) -> list[av.VideoFrame]:
            assert isinstance(packet, av.Packet), "the driver's own, not a copy"
            self.decoded.append(packet)
            frames: list[av.VideoFrame] = codec.decode(packet)
            return frames

        stream = SimpleNamespace(
            index=0,
            width=width,
            height=height,
            average_rate=self.rate,
            codec_context=SimpleNamespace(decode=decode),
        )
        streams = SimpleNamespace(video=[stream])
        return SimpleNamespace(streams=streams, demux=self.demux, close=self.close)

    def close(self) -> None:
        self.closed += 1

    def give(self) -> Packets:
        while True:
            yield self.packet(time.monotonic() - 0.5)
            time.sleep(0.01)

    def packet(self, moment: float) -> Given:
        width, height = self.size
        data = np.full((height, width, 3), 9, np.uint8).tobytes()
        self.given.append(Given(data, round(moment * 1000)))
        return self.given[-1]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


def fail(number: int) -> Exception:
    """As PyAV raises it, with the device's name in its text."""
    kind: Any = av.error.classes.get(number, av.error.OSError)
    error: Exception = kind(number, os.strerror(number), "/dev/video0")
    return error


@pytest.mark.parametrize("address", ["/dev/video0", "v4l2:///dev/video0", "0", 0, "v4l2://0"])
def test_a_camera_is_opened_by_each_of_its_names(driver: Driver, address: str | int) -> None:
    with live.open(address) as source:
        frame = next(each_frame(source))
        assert frame.pixels.max() == 9
        assert 0.49 < frame.age < PATIENCE, "the driver stamps it with the monotonic clock"
        assert (source.live, source.name) == (True, "/dev/video0")
    assert driver.calls[0] == {
        "name": "/dev/video0",
        "format": "v4l2",
        "options": {},
        "timeout": None,
    }
    assert driver.closed == 1


def test_what_is_asked_for_is_asked_of_the_driver(driver: Driver) -> None:
    with live.open("/dev/video0", width=64, height=48, rate=30, codec="mjpeg") as source:
        next(each_frame(source))
    expected = {"video_size": "64x48", "framerate": "30", "input_format": "mjpeg"}
    assert driver.calls[0]["options"] == expected


def test_a_frame_does_not_lie_in_the_drivers_memory(driver: Driver) -> None:
    """The driver takes it back when the camera is closed or lost: who looks at the frame then
    would die of it.
    """
    with live.open("/dev/video0") as source:
        next(each_frame(source))
    for given, decoded in zip(driver.given, driver.decoded, strict=False):
        assert (bytes(decoded), decoded.pts) == (bytes(given), given.pts)
        assert decoded.time_base == given.time_base


@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_a_stamp_of_another_clock_is_not_believed(driver: Driver, shift: float) -> None:
    def give() -> Packets:
        while True:
            yield driver.packet(time.monotonic() + shift)
            time.sleep(0.01)

    driver.demux = give
    with live.open("/dev/video0") as source:
        assert 0 <= next(each_frame(source)).age < PATIENCE


def test_what_the_driver_changes_is_said_once(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints = list[str]()
    monkeypatch.setattr(camera, "give_hint", hints.append)
    monkeypatch.setattr(reader, "FIRST_DELAY", 0.01)
    driver.rate = Fraction(5)

    def three() -> Packets:
        yield from (driver.packet(time.monotonic()) for _ in range(3))

    driver.demux = three
    with live.open("/dev/video0", width=1920, height=1080, rate=30) as source:
        wait_for(source, lambda: source.counts.opens > 1)
    assert len(hints) == 2
    assert hints[0].startswith("/dev/video0 gives 64x48, not 1920x1080; v4l2-ctl -d /dev/video0")
    assert hints[1].startswith("/dev/video0 gives 5 pictures a second, not 30")


def problem_of(source: Source) -> SourceError:
    with source:
        wait_for(source, lambda: source.problem is not None)
        assert source.problem is not None
        return source.problem


@pytest.mark.parametrize(
    ("number", "problem", "fix"),
    [
        (errno.ENOENT, "there is no camera /dev/video0", "/dev/video"),
        (errno.EACCES, "may not be opened", "usermod -aG video"),
        (errno.EINVAL, "does not offer the size, rate or codec", "--list-formats-ext"),
        (errno.ENOTTY, "is not a camera", "/dev/video"),
    ],
)
def test_what_stays_wrong_is_said_and_ends_it(
    driver: Driver, number: int, problem: str, fix: str
) -> None:
    driver.failure = fail(number)
    error = problem_of(live.open("/dev/video0"))
    assert isinstance(error, PermanentError)
    assert problem in error.problem and fix in error.fix
    assert error.__cause__ is None and error.__context__ is None


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (errno.EBUSY, "is used by another program"),
        (errno.ENODEV, "was unplugged"),
        (errno.EIO, "cannot be read: PyAV says: Input/output error"),
    ],
)
def test_what_may_change_is_said_and_tried_again(driver: Driver, number: int, problem: str) -> None:
    driver.failure = fail(number)
    with live.open("/dev/video0") as source:
        wait_for(source, lambda: source.state == "lost")
        assert problem in str(source.problem)
        driver.failure = None
        wait_for(source, lambda: source.state == "live")


def test_a_camera_that_is_unplugged_comes_back(driver: Driver) -> None:
    def unplug() -> Packets:
        yield driver.packet(time.monotonic())
        driver.demux = driver.give
        raise fail(errno.ENODEV)

    driver.demux = unplug
    problems = list[str]()
    with live.open("/dev/video0") as source:
        source.listen(lambda: problems.append(str(source.problem)))
        wait_for(source, lambda: source.counts.opens == 2)
    assert any("was unplugged" in problem for problem in problems)
    assert driver.closed == 2, "a device that stays open is busy"


def test_other_cameras_are_named(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "DEVICES", tmp_path)
    driver.failure = fail(errno.ENOENT)
    assert "no /dev/video* on this machine" in problem_of(live.open("/dev/video0")).fix
    (tmp_path / "video2").touch()
    assert "video2" in problem_of(live.open("/dev/video0")).fix


def test_a_silent_camera_is_stopped_where_its_read_hangs(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else ends a read of Video4Linux: its time-outs do nothing."""
    device = tmp_path / "video0"
    device.touch()
    stopped = threading.Event()
    requests = list[tuple[int, bytes]]()

    def ioctl(descriptor: int, request: int, argument: bytes) -> int:
        assert Path(f"/proc/self/fd/{descriptor}").readlink() == device
        requests.append((request, argument))
        stopped.set()
        return 0

    def hang() -> Packets:
        with device.open():
            yield driver.packet(time.monotonic())
            assert stopped.wait(PATIENCE)
            stopped.clear()
            raise fail(errno.EINVAL)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    driver.demux = hang
    problems = list[str]()
    with live.open(f"v4l2://{device}", stall=0.1) as source:
        source.listen(lambda: problems.append(str(source.problem)))
        wait_for(source, lambda: source.counts.opens == 2)
        assert source.counts.losses == 1
    assert not source._thread.is_alive()  # type: ignore[attr-defined]
    assert f"{device} gave no picture for 0.1 s" in problems
    assert set(requests) == {(0x40045613, struct.pack("i", 1))}


def test_a_name_with_two_slashes_is_explained() -> None:
    with pytest.raises(SourceError, match="with three slashes"):
        live.open("v4l2://dev/video0")
