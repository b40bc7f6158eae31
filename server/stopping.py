"""The word that the server ends, for threads and for event loops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Stopping:
    """Set once. To be used from any thread.

    A route that would wait for long, or for ever, waits for ``wait`` as well, and ends with it.
    """

    def __init__(self) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._number = 0

    def is_set(self) -> bool:
        return self._set.is_set()

    def set(self) -> None:
        with self._lock:
            self._set.set()
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        for callback in callbacks:
            callback()

    def then(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call ``callback`` when it is set, in the thread that sets it, or now where it is; what
        is returned takes that back.
        """
        with self._lock:
            if not self._set.is_set():
                self._number += 1
                number = self._number
                self._callbacks[number] = callback
                return lambda: self._forget(number)
        callback()
        return lambda: None

    def _forget(self, number: int) -> None:
        with self._lock:
            self._callbacks.pop(number, None)

    async def wait(self, timeout: float) -> bool:
        """Wait until it is set; False where it is not after ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(arrived.set)

        forget = self.then(tell)
        timer = loop.call_later(timeout, arrived.set)
        try:
            await arrived.wait()
        finally:
            timer.cancel()
            forget()
        return self.is_set()
