"""GStreamer's child is read, and killed when it has to be; a stand-in makes the frames."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from feeds import wait_for

from vpt_edge import live
from vpt_edge.live.feed import PermanentError
from vpt_edge.live.gstreamer import csi_pipeline, gst_pipeline
from vpt_edge.live.source import Source, each_frame
from vpt_edge.runtime.errors import SourceError

STAND_IN = Path(__file__).parent / "stand_in"
REAL = shutil.which("gst-launch-1.0")
needs_gstreamer = pytest.mark.skipif(
    REAL is None, reason="gst-launch-1.0 is missing: sudo make build/debian-ready"
)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PATH", f"{STAND_IN}{os.pathsep}{os.environ['PATH']}")
    return monkeypatch


def children() -> set[str]:
    """The processes of ours that are running, those included that nobody waited for."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def take(source: Source, count: int) -> list[tuple[int, ...]]:
    frames = [frame for frame, _ in zip(each_frame(source), range(count), strict=False)]
    for frame in frames:
        assert frame.pixels.min() == frame.pixels.max(), "rows are read where they begin"
        assert frame.pixels.max() == frame.number % 256, "frames are read where they begin"
    return [frame.pixels.shape for frame in frames]


@pytest.mark.parametrize("size", [(64, 48), (63, 35), (1, 1)])
def test_a_csi_camera_is_read(stand_in: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    width, height = size
    with live.open("csi://0", width=width, height=height, rate=30) as source:
        assert source.live
        assert take(source, 4) == [(height, width, 3)] * 4
        assert source.name == "csi://0"
        child = source._feed._child  # type: ignore[attr-defined]
    assert child.returncode is not None, "killed, and waited for"


def test_a_pipeline_of_the_user_is_read(stand_in: pytest.MonkeyPatch) -> None:
    with live.open("gst://videotestsrc pattern=ball", width=32, height=18) as source:
        assert take(source, 3) == [(18, 32, 3)] * 3
        assert source.name == "gst://videotestsrc pattern=ball"


def test_nothing_is_left_of_a_child(stand_in: pytest.MonkeyPatch) -> None:
    before = (children(), len(list(Path("/proc/self/fd").iterdir())))
    for _ in range(3):
        with live.open("csi://0", width=64, height=48) as source:
            take(source, 1)
    assert (children(), len(list(Path("/proc/self/fd").iterdir()))) == before


@pytest.mark.parametrize("fault", ["dies", "silent"])
def test_a_child_that_fails_is_lost_and_started_again(
    stand_in: pytest.MonkeyPatch, fault: str
) -> None:
    stand_in.setenv("VPT_STAND_IN", fault)
    problems = list[str]()
    with live.open("csi://0", width=64, height=48, stall=0.3) as source:
        source.listen(lambda: problems.append(str(source.problem)))
        wait_for(source, lambda: source.counts.opens == 2)
        assert source.counts.losses == 1
    expected = "csi://0 ended: GStreamer says: ERROR: Internal data stream error"
    if fault == "silent":
        expected = "csi://0 gave no picture for 0.3 s"
    assert expected in problems


def test_a_child_that_talks_is_not_stopped_by_it(stand_in: pytest.MonkeyPatch) -> None:
    stand_in.setenv("VPT_STAND_IN", "chatty")
    with live.open("csi://0", width=64, height=48) as source:
        wait_for(source, lambda: source.counts.frames > 30)


def test_a_silent_child_is_closed(stand_in: pytest.MonkeyPatch) -> None:
    stand_in.setenv("VPT_STAND_IN", "silent")
    source = live.open("csi://0", width=64, height=48, stall=1000)
    wait_for(source, lambda: source.counts.frames == 3)
    source.close()
    assert not source._thread.is_alive()  # type: ignore[attr-defined]


def test_what_a_child_started_is_killed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold the pipe, which would never end."""
    script = tmp_path / "gst-launch-1.0"
    script.write_text(f'#!/bin/sh\nVPT_STAND_IN=silent "{STAND_IN}/gst-launch-1.0" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    source = live.open("csi://0", width=64, height=48)
    wait_for(source, lambda: source.counts.frames == 3)
    source.close()
    assert not source._thread.is_alive()  # type: ignore[attr-defined]


def test_what_gstreamer_says_is_said(stand_in: pytest.MonkeyPatch) -> None:
    stand_in.setenv("VPT_STAND_IN", "broken")
    with live.open("csi://0", retries=0) as source:
        wait_for(source, lambda: source.state == "ended")
        with pytest.raises(SourceError, match="no camera is available"):
            source.poll()


def refusal(source: Source) -> str:
    with source:
        wait_for(source, lambda: source.state == "ended")
        with pytest.raises(PermanentError) as failure:
            source.poll()
    return str(failure.value)


def test_an_element_that_is_missing_is_named(stand_in: pytest.MonkeyPatch) -> None:
    text = refusal(live.open("gst://nosuchsrc", width=64, height=48))
    assert "needs the element nosuchsrc" in text and "gst-inspect-1.0 nosuchsrc" in text


def test_a_machine_without_gstreamer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    text = refusal(live.open("csi://0"))
    assert "gst-launch-1.0 cannot be run: No such file" in text
    assert "sudo apt-get install gstreamer1.0-tools" in text


@needs_gstreamer
def test_the_real_one_is_read() -> None:
    address = "gst://videotestsrc is-live=true pattern=white ! video/x-raw,width=320,height=180"
    with live.open(address, width=63, height=35, flip="clockwise") as source:
        frame = next(each_frame(source))
        assert frame.pixels.shape == (63, 35, 3)
        assert frame.pixels.min() > 250


@needs_gstreamer
def test_a_pipeline_that_the_real_one_does_not_know_is_said() -> None:
    assert "GStreamer says: WARNING: erroneous" in refusal(
        live.open("gst://nvarguscamerasrc", width=64, height=48)
    )
    assert "is not a pipeline" in refusal(live.open("gst://a=", width=64, height=48))


@needs_gstreamer
def test_the_pipeline_of_a_jetson_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real GStreamer, with other elements for the two that only a Jetson has."""
    script = tmp_path / "gst-launch-1.0"
    script.write_text(
        "#!/bin/sh\n"
        'p=$(echo "$*" | sed "s/nvarguscamerasrc sensor-id=0/videotestsrc is-live=true/;'
        's/nvvidconv flip-method=0/videoconvert/;s/(memory:NVMM)//")\n'
        f"exec {REAL} $p\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with live.open("csi://0", width=320, height=180, rate=29.97) as source:
        assert next(each_frame(source)).pixels.shape == (180, 320, 3)


def test_the_rate_is_a_fraction() -> None:
    assert "framerate=30/1" in " ".join(csi_pipeline(0, (1280, 720), 30))
    assert "framerate=2997/100" in " ".join(csi_pipeline(0, (1280, 720), 29.97))


@pytest.mark.parametrize(
    "text",
    [
        "rtspsrc location=rtsp://user:secret@host/x ! decodebin",
        'rtspsrc location="rtsp://user:secret@host" ! decodebin',
        "rtspsrc location=rtsp://host user-id=u user-pw=secret",
        "souphttpsrc password=secret",
    ],
)
def test_a_password_on_a_command_line_is_refused(text: str) -> None:
    """Whoever is on the machine sees it in the list of processes."""
    with pytest.raises(SourceError, match="which the list of processes shows") as failure:
        gst_pipeline(text, (64, 48))
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(("text", "problem"), [("", "is empty"), ("a 'b", "No closing quotation")])
def test_what_is_not_a_pipeline_is_said(text: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        live.open(f"gst://{text}", width=64, height=48)


def test_a_pipeline_without_a_size_is_refused() -> None:
    with pytest.raises(SourceError, match="give width and height"):
        live.open("gst://videotestsrc")


@pytest.mark.parametrize("address", ["csi://", "csi://a", "csi://-1"])
def test_a_sensor_is_a_number(address: str) -> None:
    with pytest.raises(SourceError, match="csi://0 or csi://1"):
        live.open(address)
