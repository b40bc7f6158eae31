"""Players see what a source shows, as long as the watch goes on and no longer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rtsp
from answers import seen
from sources import frame

from vpt_edge import live
from vpt_edge.live.sinks import Setting, open_outputs, rtsp_child
from vpt_edge.live.sinks.rtsp import Rtsp
from vpt_edge.live.source import each_frame
from vpt_edge.runtime.errors import SinkError

MISSING = rtsp.find_missing()
real = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
RED = np.full((240, 320, 3), (200, 30, 30), np.uint8)
BLUE = np.full((120, 162, 3), (30, 30, 200), np.uint8)
PATIENCE = 30.0


def target(port: int) -> str:
    return f"rtsp://@:{port}/door"


def children() -> set[int]:
    """The processes of ours that serve."""
    script = str(rtsp_child.SCRIPT).encode()
    serving = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if script in words and int(parent) == os.getpid():
                serving.add(int(folder.name))
    return serving


@contextlib.contextmanager
def shown(sink: Rtsp, *items: Any) -> Iterator[threading.Event]:
    """They are put again and again meanwhile, 25 times a second."""
    over = threading.Event()

    def show() -> None:
        while not over.wait(0.04):
            for item in items:
                with contextlib.suppress(SinkError):
                    sink.put(item)

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield over
    finally:
        over.set()
        thread.join()


def put_for(sink: Rtsp, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sink.put(frame(0, RED))


def play(port: int, name: str = "door", count: int = 5) -> list[Any]:
    """The pixels of the last of so many frames."""
    frames = []
    with live.open(f"rtsp://127.0.0.1:{port}/{name}") as source:
        for each in each_frame(source):
            frames.append(each.pixels)
            if len(frames) == count:
                break
    return frames


@real
def test_a_player_sees_pictures_and_answers() -> None:
    port = rtsp.free_port()
    sink = Rtsp(target(port), ["test"])
    with shown(sink, frame(0, RED), seen(0, "yes", pixels=RED)):
        pixels = play(port)[-1]
    sink.close()
    assert pixels.shape == (240, 320, 3)
    assert pixels[:100].reshape(-1, 3).mean(0) == pytest.approx((200, 30, 30), abs=12)
    assert pixels[-30:].min(2).max() > 200  # the white of the answer
    assert children() == set()


@real
def test_each_source_has_a_stream_and_two_players_share_it() -> None:
    port = rtsp.free_port()
    sink = Rtsp(target(port), ["a", "b"])
    with shown(sink, frame(0, RED, source="a"), frame(0, BLUE, source="b")):
        red = play(port, "door")[-1]
        blue = play(port, "door.2")[-1]
        with live.open(f"rtsp://127.0.0.1:{port}/door") as other:
            next(iter(each_frame(other)))
            assert len(play(port, "door")) == 5
    sink.close()
    assert red.shape == (240, 320, 3) and blue.shape == (120, 162, 3)
    assert red.mean((0, 1)) == pytest.approx((200, 30, 30), abs=12)
    assert blue.mean((0, 1)) == pytest.approx((30, 30, 200), abs=12)


@real
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_dies_or_hangs_is_started_again(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtsp_child, "STALL", 0.2)
    port = rtsp.free_port()
    sink = Rtsp(target(port), ["test"])
    first = children()
    assert len(first) == 1
    os.kill(first.pop(), number)
    with pytest.raises(SinkError, match="the RTSP server died and is started again"):
        put_for(sink, PATIENCE)
    assert sink.restarts == 1
    with shown(sink, frame(0, RED)):
        assert len(play(port)) == 5
    sink.close()
    assert children() == set()


@real
def test_it_listens_to_this_machine_alone_unless_another_host_is_named() -> None:
    for host, address in (("", "0100007F"), ("0.0.0.0", "00000000")):
        port = rtsp.free_port()
        sink = Rtsp(f"rtsp://@{host}:{port}/door", ["test"])
        lines = Path("/proc/net/tcp").read_text().splitlines()
        places = {line.split()[1] for line in lines}
        sink.close()
        assert [place for place in places if place.endswith(f":{port:04X}")] == [
            f"{address}:{port:04X}"
        ]


@real
def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(SinkError, match=f"cannot serve at rtsp://@127.0.0.1:{port}: .*in use"):
            Rtsp(target(port), ["test"])
    assert children() == set()


@real
def test_a_target_that_fails_later_leaves_no_server(tmp_path: Path) -> None:
    one = Setting(("test",), ("Open?",), Path("bundle"), {})
    targets = {"output": target(rtsp.free_port()), "mqtt": "nothing"}
    with pytest.raises(SinkError):
        open_outputs(targets, one)
    assert children() == set()


@pytest.mark.parametrize(
    "address",
    ["rtsp://me:s3cret@host/door", "rtsp://host/door", "rtsp://@:8554", "rtsp://@:0/s3cret"],
)
def test_an_address_that_cannot_be_served_is_not_quoted(address: str) -> None:
    with pytest.raises(SinkError, match=r"rtsp:// output") as error:
        Rtsp(address, ["test"])
    assert "s3cret" not in str(error.value)


def test_without_a_server_the_command_that_installs_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rtsp_child, "PYTHON", str(tmp_path / "python3"))
    fix = "sudo apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
    with pytest.raises(SinkError, match=f"gst-rtsp-server, which is missing: .*{fix}"):
        Rtsp("rtsp://@/door", ["test"])
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho \"missing: No module named 'gi'\"\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(SinkError, match=f"is missing: No module named 'gi'; {fix}"):
        Rtsp("rtsp://@/door", ["test"])
