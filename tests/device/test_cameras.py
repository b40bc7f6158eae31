"""Cameras by scripted drivers, which answer the requests byte by byte as the kernel's headers lay
them out.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import pytest

from vpt_edge.commands import doctor as command
from vpt_edge.device import cameras
from vpt_edge.device.cameras import check_cameras, list_cameras
from vpt_edge.device.machine import Finding
from vpt_edge.device.v4l2 import Camera, Mode
from vpt_edge.runtime import host

# Of <linux/videodev2.h>, as a C compiler computes them for x86-64 and AArch64.
QUERYCAP = 0x80685600
ENUM_FMT = 0xC0405602
ENUM_FRAMESIZES = 0xC02C564A
ENUM_FRAMEINTERVALS = 0xC034564B
CAPTURE = 0x1
MPLANE = 0x1000
METADATA = 0x00800000
STREAMING = 0x04000000
DEVICE_CAPS = 0x80000000

Item = TypeVar("Item")
Sizes: TypeAlias = dict[tuple[int, int], list[tuple[int, int]]]


@dataclass
class Driver:
    """A camera; ``formats``: by their codec the sizes, and by each its intervals as fractions."""

    card: str = "HD Pro Webcam C920"
    capabilities: int = CAPTURE | STREAMING
    formats: dict[str, Sizes] = field(default_factory=dict)
    steps: tuple[int, ...] = ()  # of sizes, in the place of the listed ones
    fails: int = 0

    def answer(self, request: int, data: bytes) -> bytes:
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        return {
            QUERYCAP: self.query,
            ENUM_FMT: self.format,
            ENUM_FRAMESIZES: self.size,
            ENUM_FRAMEINTERVALS: self.interval,
        }[request](data)

    def query(self, data: bytes) -> bytes:
        assert len(data) == 104
        names = struct.pack("16s32s32s", b"uvcvideo", self.card.encode(), b"usb-0000:01:00.0-2")
        whole = self.capabilities | CAPTURE | METADATA | DEVICE_CAPS
        return names + struct.pack("6I", 0x060100, whole, self.capabilities, 0, 0, 0)

    def format(self, data: bytes) -> bytes:
        assert len(data) == 64
        index, kind = struct.unpack_from("II", data)
        assert kind == (9 if self.capabilities & MPLANE else 1)
        codec = pick(list(self.formats), index)
        text = struct.pack("III32s", index, kind, 0, b"Motion-JPEG")
        return text + codec.encode("latin-1") + bytes(16)

    def size(self, data: bytes) -> bytes:
        assert len(data) == 44
        (index,) = struct.unpack_from("I", data)
        codec = data[4:8].decode("latin-1")
        if self.steps:
            pick([0], index)
            return data[:8] + struct.pack("I6I", 3, *self.steps) + bytes(8)
        width, height = pick(list(self.formats[codec]), index)
        return data[:8] + struct.pack("III", 1, width, height) + bytes(24)

    def interval(self, data: bytes) -> bytes:
        assert len(data) == 52
        (index,) = struct.unpack_from("I", data)
        width, height = struct.unpack_from("II", data, 8)
        if self.steps:
            pick([0], index)
            return data[:16] + struct.pack("I6I", 2, 1, 60, 1, 1, 0, 1) + bytes(8)
        known = self.formats[data[4:8].decode("latin-1")][width, height]
        seconds, parts = pick(known, index)
        return data[:16] + struct.pack("III", 1, seconds, parts) + bytes(24)


def pick(known: Sequence[Item], index: int) -> Item:
    """As a driver: EINVAL behind the last one."""
    if index >= len(known):
        raise OSError(errno.EINVAL, "Invalid argument")
    return known[index]


C920 = Driver(
    formats={
        "YUYV": {(640, 480): [(1, 30), (1, 15)], (2304, 1536): [(1, 2)]},
        "MJPG": {
            (640, 480): [(1, 30)],
            (1920, 1080): [(1, 30), (1001, 30000), (1, 24)],
            (320, 240): [(1, 30)],
            (1280, 720): [(1, 60)],
            (160, 90): [(1, 30)],
            (176, 144): [(1, 30)],
        },
    }
)
SENSOR = Driver(card="vi-output, imx219 9-0010", formats={"RG10": {(3280, 2464): [(1, 21)]}})

Connect: TypeAlias = Callable[..., None]


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Drivers by the names of their nodes."""
    monkeypatch.setattr(host, "ROOT", tmp_path)
    (tmp_path / "dev").mkdir()

    def connect_all(**drivers: Driver) -> None:
        for name in drivers:
            (tmp_path / "dev" / name).write_text("")

        def ioctl(handle: int, request: int, data: bytes) -> bytes:
            node = Path(f"/proc/self/fd/{handle}").readlink().name
            return drivers[node].answer(request, data)

        monkeypatch.setattr(fcntl, "ioctl", ioctl)

    return connect_all


def jetson(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3,")


def findings() -> list[Finding]:
    return list(check_cameras())


def test_a_camera_with_its_modes(connect: Connect, tmp_path: Path) -> None:
    connect(video0=C920)
    (camera,) = list_cameras()
    device = str(tmp_path / "dev/video0")
    assert dataclasses.replace(camera, modes=()) == Camera(
        device, "HD Pro Webcam C920", "uvcvideo", "usb-0000:01:00.0-2", ()
    )
    assert camera.modes[0] == Mode("YUYV", 640, 480, (30.0, 15.0))
    assert Mode("MJPG", 1920, 1080, (30.0, 29.97, 24.0)) in camera.modes
    assert len(camera.modes) == 8
    assert findings() == [
        Finding(
            "camera video0",
            "ok",
            "HD Pro Webcam C920 (uvcvideo): YUYV 2304x1536 at 2/s, 640x480 at 30/s; "
            "MJPG 1920x1080 at 30/s, 1280x720 at 60/s, 640x480 at 30/s, 320x240 at 30/s "
            "and 2 smaller",
        )
    ]


def test_the_page_of_all_modes_is_in_json(
    connect: Connect, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(video0=C920)
    monkeypatch.setattr("vpt_edge.device.doctor.CHECKS", {"cameras": check_cameras})
    command.main(["--json"])
    (camera,) = json.loads(capsys.readouterr().out)["cameras"]
    assert set(camera) == {"device", "name", "driver", "bus", "modes"}
    assert len(camera["modes"]) == 8
    assert camera["modes"][0] == {
        "codec": "YUYV",
        "width": 640,
        "height": 480,
        "rates": [30.0, 15.0],
    }


def test_the_nodes_stand_in_the_order_of_their_numbers(connect: Connect) -> None:
    connect(video10=C920, video2=C920)
    assert [finding.check for finding in findings()] == ["camera video2", "camera video10"]


def test_a_node_of_metadata_is_passed_over(connect: Connect) -> None:
    """The second node of a USB camera; what counts is what the node can, not the device."""
    connect(video0=C920, video1=Driver(capabilities=METADATA | STREAMING))
    assert [finding.check for finding in findings()] == ["camera video0"]
    assert len(list_cameras()) == 1


def test_a_camera_of_several_planes(connect: Connect) -> None:
    connect(video0=Driver(capabilities=MPLANE, formats={"NV12": {(640, 480): [(1, 30)]}}))
    assert list_cameras()[0].modes == (Mode("NV12", 640, 480, (30.0,)),)


def test_a_camera_of_any_size(connect: Connect) -> None:
    """Its two ends, and of its rates, too."""
    steps = (320, 3840, 2, 180, 2160, 2)
    connect(video0=Driver(formats={"YUYV": {}}, steps=steps))
    assert list_cameras()[0].modes == (
        Mode("YUYV", 3840, 2160, (60.0, 1.0)),
        Mode("YUYV", 320, 180, (60.0, 1.0)),
    )


def test_a_size_without_a_rate(connect: Connect) -> None:
    connect(video0=Driver(formats={"GREY": {(64, 48): [], (32, 24): [(0, 1)]}}))
    assert findings()[0].found.endswith(": GREY 64x48, 32x24")


def test_a_driver_that_never_ends_is_left(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: Sizes = {(width, 8): [(1, 30)] for width in range(1000)}
    connect(video0=Driver(formats={"MJPG": sizes}))
    assert len(list_cameras()[0].modes) == 256


def test_a_name_cannot_move_the_cursor(connect: Connect) -> None:
    connect(video0=Driver(card="Cam\x1b[2J\n", formats={"MJPG": {(8, 8): []}}))
    assert list_cameras()[0].name == "Cam[2J"


def test_a_codec_of_big_endian_is_readable(connect: Connect) -> None:
    """As of vivid, the kernel's test driver: its highest bit made it a broken character."""
    connect(video0=Driver(formats={"Y16\xa0": {(8, 8): []}, "Y16 ": {(8, 8): []}}))
    assert [mode.codec for mode in list_cameras()[0].modes] == ["Y16-BE", "Y16"]


def test_a_camera_of_many_codecs_is_one_line(connect: Connect) -> None:
    """As vivid, which has 83; all are in --json."""
    codecs = [f"C{number:03}" for number in range(83)]
    connect(video0=Driver(formats={codec: {(8, 8): []} for codec in codecs}))
    assert findings()[0].found.endswith(
        ": C000 8x8; C001 8x8; C002 8x8; C003 8x8; and 79 codecs more"
    )
    assert len(list_cameras()[0].modes) == 83


def test_a_sensor_is_opened_by_csi(connect: Connect, tmp_path: Path) -> None:
    connect(video0=SENSOR)
    (elsewhere,) = findings()
    assert (elsewhere.state, elsewhere.fix[:17]) == ("warning", "open it by gst://")
    jetson(tmp_path)
    (finding,) = findings()
    assert finding.state == "ok"
    assert "raw colours of a sensor (RG10): open it by csi://" in finding.found


@pytest.mark.parametrize("codec", ["RGGB", "BA81", "RG10", "GB12", "BG16", "pRAA", "pgCC"])
def test_raw_colours_are_known(connect: Connect, codec: str) -> None:
    connect(video0=Driver(formats={codec: {(8, 8): []}}))
    assert "raw colours" in findings()[0].found


@pytest.mark.parametrize("codec", ["MJPG", "YUYV", "NV12", "H264", "GREY", "RGB3", "BGR3", "UYVY"])
def test_pictures_are_not_raw_colours(connect: Connect, codec: str) -> None:
    connect(video0=Driver(formats={codec: {(8, 8): []}}))
    assert findings()[0].state == "ok"


def test_a_camera_without_a_mode(connect: Connect) -> None:
    connect(video0=Driver())
    (finding,) = findings()
    assert finding.state == "warning"
    assert finding.found.endswith("offers no mode")
    assert finding.fix


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENODEV, "unplug it and plug it in again"),
        (errno.ENOTTY, "unplug it and plug it in again"),
        (errno.EBUSY, "end the program that uses it: sudo fuser -v "),
    ],
)
def test_a_camera_that_does_not_answer(
    connect: Connect, tmp_path: Path, code: int, fix: str
) -> None:
    connect(video0=Driver(fails=code), video1=C920)
    (tmp_path / "sys/class/video4linux/video0").mkdir(parents=True)
    (tmp_path / "sys/class/video4linux/video0/name").write_text("Broken\n")
    first, second = findings()
    assert first.found == f"Broken: it does not answer: {os.strerror(code)}"
    assert first.fix.startswith(fix)
    assert second.state == "ok"
    assert len(list_cameras()) == 1


def test_a_camera_that_may_not_be_opened(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(video0=C920)

    def refuse(path: Path) -> Camera | None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cameras, "read_camera", refuse)
    (finding,) = findings()
    assert finding.found == "no name: no permission to open it"
    assert finding.fix.startswith("sudo usermod -aG video $USER")


def test_no_handle_is_left(connect: Connect) -> None:
    connect(video0=C920, video1=Driver(fails=errno.EIO))
    before = sorted(Path("/proc/self/fd").iterdir())
    findings()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_without_a_camera(connect: Connect, tmp_path: Path) -> None:
    connect()
    assert findings() == [Finding("cameras", "ok", "none is connected")]
    jetson(tmp_path)
    assert findings()[0].fix == "for a CSI camera: sudo /opt/nvidia/jetson-io/jetson-io.py"
