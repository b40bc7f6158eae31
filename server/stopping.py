"""The word that the server ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Stopping:
    """Set once. To be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._callbacks = list["Callable[[], object]"]()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        with self._lock:
            self._is_set = True
            callbacks = self._callbacks
            self._callbacks = []
        for callback in callbacks:
            callback()

    def then(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when it is set, in the thread that sets it, or now where it is."""
        with self._lock:
            is_set = self._is_set
            if not is_set:
                self._callbacks.append(callback)
        if is_set:
            callback()
