"""Who watches over a watch hears of it, and costs it nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import CameraSource

from vpt_edge.live.health import Health
from vpt_edge.live.pulse import Pulse
from vpt_edge.runtime.errors import VptError


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listens as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def hear(manager: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(manager.recv(4096).decode())
        except BlockingIOError:
            return lines


def open_pulse(health: Health | None = None) -> Pulse:
    return Pulse(health)


def test_a_status_is_told_when_it_changes(manager: socket.socket) -> None:
    camera = CameraSource("rtsp://camera")
    pulse = open_pulse()
    assert hear(manager) == []
    pulse.begin([camera, CameraSource()])
    pulse.beat()
    assert hear(manager) == ["READY=1", "STATUS=0 of 2 sources live, 0 answers"]
    camera.enter("live")
    pulse.beat()
    pulse.beat()
    pulse.answer()
    assert hear(manager) == [
        "STATUS=1 of 2 sources live, 0 answers",
        "STATUS=1 of 2 sources live, 1 answers",
    ]
    pulse.end()
    assert hear(manager) == ["STOPPING=1"]
    pulse.close()


def test_a_status_file_counts_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpt_edge.live.health.INTERVAL", 0)
    path = tmp_path / "status.json"
    pulse = open_pulse(Health(path))
    pulse.begin([CameraSource()])
    pulse.answer()
    assert json.loads(path.read_text())["answers"] == 1
    pulse.close()


def test_a_status_file_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk ends no watch."""
    monkeypatch.setattr("vpt_edge.live.health.INTERVAL", 0)
    folder = tmp_path / "run"
    folder.mkdir()
    pulse = open_pulse(Health(folder / "status.json"))
    folder.rmdir()
    pulse.begin([CameraSource()])
    pulse.beat()
    assert capsys.readouterr().err.count("the status file: ") == 1
    folder.mkdir()
    pulse.beat()
    assert (folder / "status.json").exists()
    folder.joinpath("status.json").unlink()
    folder.rmdir()
    pulse.beat()
    assert capsys.readouterr().err.count("the status file: ") == 1
    pulse.close()


def test_a_manager_that_cannot_be_reached_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    with pytest.raises(VptError, match="cannot reach the service manager"):
        open_pulse()
