"""Notices that nothing happens any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

JOIN = 0.2  # seconds for a bark to come to its end


class Watchdog:
    """A thread that calls ``bark`` when ``expect`` named a moment and nothing put it off.

    After it has barked it waits for the next ``expect``.
    """

    def __init__(self, bark: Callable[[], None], name: str) -> None:
        self._bark = bark
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def expect(self, seconds: float) -> None:
        """Bark in ``seconds``, and not when it was said before."""
        with self._changed:
            deadline = time.monotonic() + seconds
            sleeps_longer = self._deadline is None or deadline < self._deadline
            self._deadline = deadline
            if sleeps_longer:
                self._changed.notify()

    def rest(self) -> None:
        """Bark no more until the next ``expect``."""
        with self._changed:
            self._deadline = None

    def stop(self) -> None:
        """End the thread, from any other one."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(JOIN)

    def _run(self) -> None:
        while self._wait():
            self._bark()

    def _wait(self) -> bool:
        """Until it is time to bark; False at the end."""
        with self._changed:
            while not self._stopped:
                if self._deadline is None:
                    self._changed.wait()
                    continue
                remaining = self._deadline - time.monotonic()
                if remaining <= 0:
                    self._deadline = None
                    return True
                self._changed.wait(remaining)
            return False
