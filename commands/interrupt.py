"""Ctrl-C, and what ends a command as it does: SIGTERM, and a terminal that goes away."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is not on Windows
TOGETHER = 1.0  # seconds within which the signals of a terminal, a parent and a service are one


class Interrupts:
    """Within the block each of the signals raises KeyboardInterrupt.

    A library may swallow that, or make another error of it: ``seen`` knows better. A signal that is
    ignored, as under nohup, stays so.
    """

    def __init__(self) -> None:
        self.seen = False
        self._last = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        self.seen = False
        if threading.current_thread() is not threading.main_thread():
            return  # signals are not a thread's
        for name in SIGNALS:
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            self._before[number] = signal.signal(number, self._interrupt)

    def __exit__(self, *error: object) -> None:
        self.seen = False
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def check(self) -> None:
        """Raises KeyboardInterrupt where one has come, whoever has swallowed it."""
        if self.seen:
            raise KeyboardInterrupt

    def silence(self) -> None:
        """Let no more come: the command ends."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _interrupt(self, number: int, frame: object) -> None:
        now = time.monotonic()
        is_same = self.seen and now - self._last < TOGETHER
        self.seen = True
        if is_same:
            return
        self._last = now
        raise KeyboardInterrupt


interrupts = Interrupts()  # signals are the process's, and so is this
