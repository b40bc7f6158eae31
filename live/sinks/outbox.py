"""What waits to be sent, within bounds."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.live.sinks.broker import Message


class Parcel(NamedTuple):
    """Messages that are sent together, one after the other; ``number`` tells it from others."""

    number: int
    messages: tuple[Message, ...]

    @property
    def bytes(self) -> int:
        return sum(len(message.payload) for message in self.messages)


class Outbox:
    """At most ``count`` parcels with ``limit`` bytes; the oldest are dropped for newer ones."""

    def __init__(self, count: int, limit: int) -> None:
        self._count = count
        self._limit = limit
        self._parcels: deque[Parcel] = deque()
        self._bytes = 0
        self._number = 0
        self._changed = threading.Condition()
        self._closing = False

    def __len__(self) -> int:
        return len(self._parcels)

    def append(self, messages: tuple[Message, ...]) -> int:
        """Line ``messages`` up; how many parcels were dropped for them."""
        with self._changed:
            parcel = Parcel(self._number, messages)
            self._number += 1
            self._parcels.append(parcel)
            self._bytes += parcel.bytes
            dropped = 0
            while len(self._parcels) > self._count or self._bytes > self._limit:
                self._bytes -= self._parcels.popleft().bytes
                dropped += 1
            self._changed.notify_all()
        return dropped

    def head(self, is_over: Callable[[], bool]) -> Parcel | None:
        """The oldest parcel, as soon as there is one; None where ``is_over`` or nothing comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._parcels or self._closing or is_over())
            if is_over() or not self._parcels:
                return None
            return self._parcels[0]

    def remove(self, parcel: Parcel) -> bool:
        """Take ``parcel`` away; False where it was dropped meanwhile."""
        with self._changed:
            if not self._parcels or self._parcels[0].number != parcel.number:
                return False
            self._bytes -= self._parcels.popleft().bytes
            return True

    def clear(self) -> int:
        """Take all away; how many there were."""
        with self._changed:
            number = len(self._parcels)
            self._parcels.clear()
            self._bytes = 0
            return number

    def pause(self, seconds: float) -> None:
        """Wait, until it is closed at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

    def close(self) -> None:
        """Nothing more comes."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    @property
    def is_closing(self) -> bool:
        return self._closing
