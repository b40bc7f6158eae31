"""What decodes the pictures of cameras, streams and clips here, as vpt-doctor finds it."""

from __future__ import annotations

import re
import shutil
import subprocess

from vpt_edge.device import machine
from vpt_edge.device.libraries import is_installed
from vpt_edge.device.machine import Finding
from vpt_edge.device.probes import in_subprocess
from vpt_edge.runtime.errors import VptError

LAUNCH = "gst-launch-1.0"
INSPECT = "gst-inspect-1.0"
TIMEOUT = 60  # seconds: the first call of all looks into every plugin
BASE = ("gstreamer1.0-tools", "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good")
L4T = "nvidia-l4t-gstreamer"
HARDWARE = "nvv4l2decoder"
# The elements of our pipelines by the package that brings them; those of NVIDIA on a Jetson alone.
ELEMENTS = {
    "fdsink": "libgstreamer1.0-0",
    "queue": "libgstreamer1.0-0",
    "videoconvert": "gstreamer1.0-plugins-base",
    "videoscale": "gstreamer1.0-plugins-base",
}
JETSON_ELEMENTS = {"nvarguscamerasrc": L4T, "nvvidconv": L4T}


def check_pyav() -> Finding:
    check = "PyAV"
    if not is_installed("av"):
        found = "not installed: cameras, streams and clips need it"
        return Finding(check, "missing", found, "pip install 'vpt-edge[live]'")
    try:
        version, ffmpeg, _ = in_subprocess("pyav_facts")
    except VptError as error:
        fix = "pip install --force-reinstall av"
        return Finding(check, "missing", f"does not load: {error}", fix)
    return Finding(check, "ok", f"{version}, FFmpeg {ffmpeg}")


def check_gstreamer() -> Finding:
    """Whether the elements of our pipelines are there; desktops need them for gst:// alone."""
    check = "GStreamer"
    jetson = machine.is_jetson()
    if shutil.which(LAUNCH) is None or shutil.which(INSPECT) is None:
        if not jetson:
            return Finding(check, "ok", "not installed; only gst:// needs it", _install(BASE))
        found = f"{LAUNCH} is not installed: csi:// and gst:// need it"
        return Finding(check, "missing", found, _install((*BASE, L4T)))
    elements = _elements()
    if not elements:
        found = f"{INSPECT} lists no elements"
        return Finding(check, "missing", found, f"run {INSPECT} and read what it says")
    needed = dict(ELEMENTS)
    if jetson:
        needed |= JETSON_ELEMENTS
    lacking = [name for name in needed if name not in elements]
    if lacking:
        packages = tuple(dict.fromkeys(needed[name] for name in lacking))
        found = f"without {', '.join(lacking)}"
        fix = _install(packages)
        if L4T in packages:
            fix += "; in a container: docker run --runtime nvidia ..."
        return Finding(check, "missing", found, fix)
    return Finding(check, "ok", f"{_version()}, with {', '.join(needed)}")


def check_decoding() -> Finding:
    """What decodes streams and clips, and whether a Jetson's own decoder can be had."""
    check = "video decoding"
    if machine.is_jetson():
        if HARDWARE in _elements():
            found = f"on the CPU by PyAV; in hardware by {HARDWARE} in a gst:// of your own"
            return Finding(check, "ok", found)
        found = f"on the CPU by PyAV alone: GStreamer has no {HARDWARE}"
        fix = f"{_install((L4T,))}; in a container: docker run --runtime nvidia ..."
        return Finding(check, "warning", found, fix)
    return Finding(check, "ok", f"on the CPU by PyAV{_built_in()}")


def _built_in() -> str:
    """The kinds of hardware that PyAV was built for: the library tells no more than that."""
    if not is_installed("av"):
        return ""
    try:
        _, _, kinds = in_subprocess("pyav_facts")
    except VptError:  # ``check_pyav`` tells it
        return ""
    if not kinds:
        return ""
    return f"; it was built for {', '.join(kinds)} too, which vpt-edge does not use"


def _elements() -> set[str]:
    """All that GStreamer offers; empty where it does not answer."""
    return set(re.findall(r"^[^:\n]+:\s+([\w-]+):", _output(INSPECT), re.MULTILINE))


def _version() -> str:
    match = re.search(r"GStreamer ([\d.]+)", _output(INSPECT, "--version"))
    return match[1] if match else "unknown version"


def _output(*command: str) -> str:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout


def _install(packages: tuple[str, ...]) -> str:
    return f"sudo apt install {' '.join(packages)}"
