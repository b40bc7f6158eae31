"""What systemd is told of a service of ``Type=notify``: that it is ready, alive, stopping.

The protocol is that of sd_notify(3): datagrams of NAME=value to the socket that NOTIFY_SOCKET
names.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from vpt_edge.runtime.errors import LINE_BREAKS, VptError, printable

RUN_BY_HAND = "unset NOTIFY_SOCKET where no service manager listens"


class Notifier:
    """The way to the service manager; one that says nothing where no manager has asked.

    ``environment``: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of it are read, once. Raises
    VptError where the socket that it names cannot be reached.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._socket = _connect(environment.get("NOTIFY_SOCKET", ""))
        self._interval = _beat_interval(environment)
        self._last_beat = -float("inf")

    def ready(self) -> None:
        """The service does its work from now on: systemd waits for it before it goes on."""
        self._send("READY=1")

    def beat(self) -> None:
        """Say that the work goes on; to be called from where it would hang, as often as it likes:
        at most once in a quarter of WatchdogSec it is sent.
        """
        now = time.monotonic()
        if self._interval is None or now - self._last_beat < self._interval:
            return
        self._last_beat = now
        self._send("WATCHDOG=1")

    def tell(self, status: str) -> None:
        """One line for ``systemctl status``. It is for all to read: no address with a password."""
        self._send(f"STATUS={printable(LINE_BREAKS.sub(' ', status))}")

    def stopping(self) -> None:
        """The service ends: from now on TimeoutStopSec counts."""
        self._send("STOPPING=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        # A manager that is busy or starts anew loses a line; whether it has heard enough is for its
        # own watchdog to say, and the work does not wait for it.
        with contextlib.suppress(OSError):
            self._socket.send(message.encode())


def _connect(address: str) -> socket.socket | None:
    if not address:
        return None
    if address[0] not in "/@":
        problem = f"NOTIFY_SOCKET is {address!r}, expected a path or an abstract name (@...)"
        raise VptError(problem, RUN_BY_HAND)
    name = address
    if address.startswith("@"):
        name = f"\0{address[1:]}"
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # closed on exec: no child has it
    channel.setblocking(False)
    try:
        channel.connect(name)
    except OSError as error:
        channel.close()
        problem = f"cannot reach the service manager at NOTIFY_SOCKET, {address}: {error.strerror}"
        raise VptError(problem, RUN_BY_HAND) from error
    return channel


def _beat_interval(environment: Mapping[str, str]) -> float | None:
    """Seconds between two beats: half of what systemd advises, since a beat comes only when the
    work next passes by. None where no watchdog waits for this process.
    """
    owner = environment.get("WATCHDOG_PID", "")
    if owner and owner != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6 / 4
