"""The cameras of this machine as vpt-doctor finds them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vpt_edge.device import machine
from vpt_edge.device.machine import Finding
from vpt_edge.device.v4l2 import Camera, Mode, read_camera
from vpt_edge.runtime import host
from vpt_edge.runtime.host import text_of

SHOWN = 4  # codecs, and sizes of each, in a line; --json has all
# What a sensor gives before anything has made colours of it: 8 bits, 10 to 16, and packed.
RAW_COLOURS = re.compile(
    r"RGGB|GRBG|GBRG|BA81|BYR2|(?:RG|BG|GB|BA|GR)1[0246]|p[RrGgBb][0-9A-Za-z]{2}"
)
JOIN_VIDEO = "sudo usermod -aG video $USER, then log in again; in a container: --group-add video"
CONNECT_CSI = "for a CSI camera: sudo /opt/nvidia/jetson-io/jetson-io.py"
PLUG_IN = "unplug it and plug it in again"


def list_cameras() -> list[Camera]:
    """Those that answer."""
    cameras = list[Camera]()
    for path in _nodes():
        try:
            camera = read_camera(path)
        except OSError:  # ``check_cameras`` tells it
            continue
        if camera is not None:
            cameras.append(camera)
    return cameras


def check_cameras() -> Iterator[Finding]:
    """One finding a camera; nodes that give no pictures, as the second of many USB cameras, are
    passed over.
    """
    findings = list[Finding]()
    for path in _nodes():
        try:
            camera = read_camera(path)
        except OSError as error:
            findings.append(_explain(path, error))
            continue
        if camera is not None:
            findings.append(_judge(camera, path.name))
    yield from findings
    if not findings:
        fix = ""
        if machine.is_jetson():
            fix = CONNECT_CSI
        yield Finding("cameras", "ok", "none is connected", fix)


def _nodes() -> list[Path]:
    devices = list((host.ROOT / "dev").glob("video*"))
    return sorted(devices, key=lambda path: (len(path.name), path.name))


def _explain(path: Path, error: OSError) -> Finding:
    name = text_of(f"sys/class/video4linux/{path.name}/name") or "no name"
    check = f"camera {path.name}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return Finding(check, "warning", f"{name}: no permission to open it", JOIN_VIDEO)
    fix = PLUG_IN
    if error.errno == errno.EBUSY:
        fix = f"end the program that uses it: sudo fuser -v {path}"
    return Finding(check, "warning", f"{name}: it does not answer: {error.strerror}", fix)


def _judge(camera: Camera, node: str) -> Finding:
    check = f"camera {node}"
    codecs = list(dict.fromkeys(mode.codec for mode in camera.modes))
    found = f"{camera.name} ({camera.driver})"
    if not codecs:
        return Finding(check, "warning", f"{found}, offers no mode", PLUG_IN)
    if all(RAW_COLOURS.fullmatch(codec) for codec in codecs):
        return _judge_sensor(check, f"{found}, raw colours of a sensor ({', '.join(codecs)})")
    parts = [_describe(codec, camera.modes) for codec in codecs[:SHOWN]]
    found += f": {'; '.join(parts)}"
    if len(codecs) > SHOWN:
        found += f"; and {len(codecs) - SHOWN} codecs more"
    return Finding(check, "ok", found)


def _judge_sensor(check: str, found: str) -> Finding:
    if machine.is_jetson():
        return Finding(check, "ok", f"{found}: open it by csi://, whose ISP makes pictures of them")
    fix = "open it by gst:// and a pipeline that makes pictures of them, as of libcamerasrc"
    return Finding(check, "warning", found, fix)


def _describe(codec: str, modes: Sequence[Mode]) -> str:
    """The sizes of a codec, the largest first, each with its highest rate."""
    sizes = [mode for mode in modes if mode.codec == codec]
    sizes.sort(key=lambda mode: mode.width * mode.height, reverse=True)
    shown = [_size(mode) for mode in sizes[:SHOWN]]
    text = f"{codec} {', '.join(shown)}"
    if len(sizes) > SHOWN:
        text += f" and {len(sizes) - SHOWN} smaller"
    return text


def _size(mode: Mode) -> str:
    size = f"{mode.width}x{mode.height}"
    return f"{size} at {mode.rates[0]:g}/s" if mode.rates else size
