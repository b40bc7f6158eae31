"""Answers that a page may show again."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

COUNT = 200
BYTES = 64 << 20
ID_BYTES = 16


@dataclass(frozen=True)
class Entry:
    """An answer as JSON types, and its picture as JPEG."""

    answer: dict[str, Any]
    picture: bytes


class History:
    """The last answers, at most ``count`` with ``size`` bytes of pictures, in memory alone.

    Who knows the id of one may read it: ids cannot be guessed. To be used from any thread.
    """

    def __init__(self, count: int = COUNT, size: int = BYTES) -> None:
        self._count = count
        self._size = size
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, answer: dict[str, Any], picture: bytes) -> str:
        """Keep ``answer`` about ``picture``, a JPEG; returns its id. The oldest ones go."""
        number = secrets.token_urlsafe(ID_BYTES)
        entry = Entry({"id": number, **answer}, picture)
        with self._lock:
            self._entries[number] = entry
            while len(self._entries) > self._count or self._total() > self._size:
                self._entries.popitem(last=False)
        return number

    def _total(self) -> int:
        return sum(len(entry.picture) for entry in self._entries.values())

    def get(self, number: str) -> Entry | None:
        """The answer with that id; None where there is none, or no longer."""
        with self._lock:
            return self._entries.get(number)

    def __len__(self) -> int:
        return len(self._entries)
