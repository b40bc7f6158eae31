"""What a service manager hears, over a real datagram socket."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vpt_edge.live.systemd import Notifier
from vpt_edge.runtime.errors import VptError

MINUTE = 60_000_000  # microseconds


class Manager:
    """Listens as systemd does."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address}

    def hear(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return lines


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@vpt-edge/{os.getpid()}/{tmp_path.name}"
    listening = Manager(address)
    yield listening
    listening.socket.close()


def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_life_of_a_service(manager: Manager) -> None:
    notifier = Notifier(manager.environment)
    notifier.ready()
    notifier.tell("2 sources live, 118 answers")
    notifier.stopping()
    notifier.close()
    assert manager.hear() == ["READY=1", "STATUS=2 sources live, 118 answers", "STOPPING=1"]


def test_a_status_is_one_line(manager: Manager) -> None:
    """Another one would be a message of its own: READY=1 in an answer of a camera's text."""
    notifier = Notifier(manager.environment)
    notifier.tell("lost:\nREADY=1\x1b[2J")
    notifier.close()
    assert manager.hear() == ["STATUS=lost: READY=1\\u001b[2J"]


def test_a_beat_is_sent_four_times_in_the_watchdogs_time(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is called, and never later than half of it where that is often."""
    now = clock(monkeypatch)
    notifier = Notifier({**manager.environment, "WATCHDOG_USEC": str(MINUTE)})
    heard = []
    for _ in range(600):
        notifier.beat()
        if manager.hear():
            heard.append(now[0])
        now[0] += 0.1
    notifier.close()
    gaps = [later - sooner for sooner, later in itertools.pairwise(heard)]
    assert len(heard) == 4
    assert max(gaps) < 15.2
    assert min(gaps) > 14.8


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": str(MINUTE), "WATCHDOG_PID": "1"},
    ],
    ids=["none", "off", "no number", "of another process"],
)
def test_no_beat_where_no_watchdog_waits(manager: Manager, watchdog: dict[str, str]) -> None:
    notifier = Notifier({**manager.environment, **watchdog})
    notifier.beat()
    notifier.close()
    assert manager.hear() == []


def test_a_watchdog_of_this_process(manager: Manager) -> None:
    watchdog = {"WATCHDOG_USEC": str(MINUTE), "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier({**manager.environment, **watchdog})
    notifier.beat()
    notifier.close()
    assert manager.hear() == ["WATCHDOG=1"]


def test_nobody_is_told_where_nobody_asked() -> None:
    notifier = Notifier({"WATCHDOG_USEC": str(MINUTE)})
    notifier.ready()
    notifier.beat()
    notifier.tell("well")
    notifier.stopping()
    notifier.close()


def test_a_manager_that_is_busy_or_gone_does_not_stop_the_work(manager: Manager) -> None:
    notifier = Notifier(manager.environment)
    for _ in range(2000):  # more than a socket holds
        notifier.tell("well" * 100)
    manager.socket.close()
    notifier.ready()
    notifier.close()
    notifier.ready()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("/nowhere/notify", "cannot reach the service manager at NOTIFY_SOCKET, /nowhere/notify: "),
        ("@nobody-listens-here", "cannot reach the service manager at NOTIFY_SOCKET, @nobody"),
        ("vsock:2:1234", "NOTIFY_SOCKET is 'vsock:2:1234', expected a path or an abstract name"),
    ],
)
def test_a_socket_that_cannot_be_reached_is_an_error(address: str, problem: str) -> None:
    """Without a word systemd would wait for READY=1 until it kills the service."""
    with pytest.raises(VptError) as refusal:
        Notifier({"NOTIFY_SOCKET": address})
    assert refusal.value.problem.startswith(problem)
    assert refusal.value.fix == "unset NOTIFY_SOCKET where no service manager listens"
