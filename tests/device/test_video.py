"""What decodes pictures, on machines of scripted programs and modules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vpt_edge.device import video
from vpt_edge.device.machine import Finding
from vpt_edge.runtime import host

DESKTOP = """coreelements:  fdsink: Filedescriptor Sink
coreelements:  queue: Queue
video-convert:  videoconvert: Colorspace converter
video-convert:  videoscale: Video scaler
libav:  avdec_h264: libav H.264 decoder

Total count: 3 plugins, 4 features"""
NVIDIA = """
nvarguscamerasrc:  nvarguscamerasrc: NvArgusCameraSrc
nvvidconv:  nvvidconv: NvVidConv Plugin
nvvideo4linux2:  nvv4l2decoder: NVIDIA v4l2 video decoder"""
HERE = "in a container: docker run --runtime nvidia ..."


class Machine:
    """A machine of files, whose only programs are those of its ``bin``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def jetson(self) -> None:
        (self.root / "etc").mkdir()
        (self.root / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3,")

    def gstreamer(self, elements: str) -> None:
        self.program("gst-launch-1.0", "exit 0")
        lines = f'[ "$1" = --version ] && echo "GStreamer 1.20.3" || echo "{elements}"'
        self.program("gst-inspect-1.0", lines)

    def program(self, name: str, text: str) -> None:
        file = self.root / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def av(self, text: str) -> None:
        folder = self.root / "site/av"
        (folder / "codec").mkdir(parents=True)
        (folder / "__init__.py").write_text(text)
        (folder / "codec/__init__.py").write_text("")
        kinds = "hwdevices_available = lambda: ['cuda', 'drm']\n"
        (folder / "codec/hwaccel.py").write_text(kinds)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in ("bin", "site"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(host, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "av", raising=False)
    return Machine(tmp_path)


def hide_av(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "is_installed", lambda name: False)


def test_a_desktop_needs_no_gstreamer(place: Machine) -> None:
    finding = video.check_gstreamer()
    assert (finding.state, finding.found) == ("ok", "not installed; only gst:// needs it")
    assert finding.fix == (
        "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
    )


def test_a_desktop_with_gstreamer(place: Machine) -> None:
    place.gstreamer(DESKTOP)
    assert video.check_gstreamer() == Finding(
        "GStreamer", "ok", "1.20.3, with fdsink, queue, videoconvert, videoscale"
    )


def test_a_jetson_without_gstreamer(place: Machine) -> None:
    place.jetson()
    finding = video.check_gstreamer()
    assert finding.state == "missing"
    assert finding.fix.startswith("sudo apt install gstreamer1.0-tools ")
    assert finding.fix.endswith(" nvidia-l4t-gstreamer")


def test_a_jetson_that_has_all(place: Machine) -> None:
    place.jetson()
    place.gstreamer(DESKTOP + NVIDIA)
    assert video.check_gstreamer().state == "ok"
    assert video.check_decoding() == Finding(
        "video decoding",
        "ok",
        "on the CPU by PyAV; in hardware by nvv4l2decoder in a gst:// of your own",
    )


@pytest.mark.parametrize(
    ("lacking", "fix"),
    [
        ("videoconvert", "sudo apt install gstreamer1.0-plugins-base"),
        ("nvarguscamerasrc", f"sudo apt install nvidia-l4t-gstreamer; {HERE}"),
        ("nvvidconv", f"sudo apt install nvidia-l4t-gstreamer; {HERE}"),
    ],
)
def test_an_element_that_is_missing(place: Machine, lacking: str, fix: str) -> None:
    place.jetson()
    elements = (DESKTOP + NVIDIA).splitlines()
    place.gstreamer("\n".join(line for line in elements if f" {lacking}:" not in line))
    finding = video.check_gstreamer()
    assert finding == Finding("GStreamer", "missing", f"without {lacking}", fix)


def test_a_jetson_whose_decoder_is_missing(place: Machine) -> None:
    place.jetson()
    place.gstreamer(DESKTOP)
    finding = video.check_decoding()
    assert finding.state == "warning"
    assert finding.found == "on the CPU by PyAV alone: GStreamer has no nvv4l2decoder"
    assert finding.fix == f"sudo apt install nvidia-l4t-gstreamer; {HERE}"


def test_the_elements_are_those_of_the_pipelines() -> None:
    gstreamer = pytest.importorskip("vpt_edge.live.gstreamer")
    csi = gstreamer.csi_pipeline(0, (1280, 720), 30.0)
    of_a_user = gstreamer.gst_pipeline("videotestsrc", (1280, 720))
    parts = [part.split()[0] for part in " ".join([*csi, "!", *of_a_user]).split(" ! ")]
    used = {part for part in parts if "/" not in part} - {"videotestsrc"}
    assert used == set(video.ELEMENTS) | set(video.JETSON_ELEMENTS)


def test_a_gstreamer_that_says_nothing(place: Machine) -> None:
    place.gstreamer("")
    finding = video.check_gstreamer()
    assert finding.found == "gst-inspect-1.0 lists no elements"
    assert finding.fix


def test_pyav(place: Machine) -> None:
    place.av("__version__ = '17.1.0'\nffmpeg_version_info = '8.1.2'\n")
    assert video.check_pyav() == Finding("PyAV", "ok", "17.1.0, FFmpeg 8.1.2")
    assert video.check_decoding().found == (
        "on the CPU by PyAV; it was built for cuda, drm too, which vpt-edge does not use"
    )


def test_a_pyav_that_does_not_load(place: Machine) -> None:
    place.av("raise ImportError('libavcodec.so.62: cannot open')")
    finding = video.check_pyav()
    assert finding.state == "missing"
    assert "libavcodec.so.62: cannot open" in finding.found
    assert finding.fix == "pip install --force-reinstall av"
    assert video.check_decoding() == Finding("video decoding", "ok", "on the CPU by PyAV")


def test_without_pyav(place: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_av(monkeypatch)
    finding = video.check_pyav()
    assert (finding.state, finding.fix) == ("missing", "pip install 'vpt-edge[live]'")
    assert video.check_decoding() == Finding("video decoding", "ok", "on the CPU by PyAV")
