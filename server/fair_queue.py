"""Who is next, where many wait."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class QueueFullError(Exception):
    """There is no room for another one of this client."""


class QueueClosedError(Exception):
    """Nothing is taken any more."""


class FairQueue(Generic[Item]):
    """Items of several clients, at most ``size``: the clients have their turn one after another,
    the items of each in the order in which they came.

    To be used from any thread.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lines: OrderedDict[str, deque[Item]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return self._count()

    def _count(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def put(self, client: str, item: Item) -> Item | None:
        """Let ``item`` wait. A full queue makes room for it where another client has more in line
        than this one would have: the last of the longest line goes, and is returned.

        Raises QueueFullError where there is no room, QueueClosedError behind ``close``.
        """
        with self._changed:
            if self._closed:
                raise QueueClosedError
            displaced = None
            if self._count() >= self.size:
                displaced = self._displace(client)
            self._lines.setdefault(client, deque()).append(item)
            self._changed.notify()
            return displaced

    def _displace(self, client: str) -> Item:
        own = len(self._lines.get(client, ()))
        longest = max(self._lines.values(), key=len, default=deque[Item]())
        if len(longest) <= own + 1:
            raise QueueFullError
        return longest.pop()

    def take(self) -> Item | None:
        """The next one, when there is one; None when the queue is closed."""
        with self._changed:
            while not self._closed:
                for client, line in self._lines.items():
                    item = line.popleft()
                    self._lines.move_to_end(client)
                    if not line:
                        del self._lines[client]
                    return item
                self._changed.wait()
            return None

    def remove(self, item: Item) -> bool:
        """Let ``item`` wait no more; False where it does not wait."""
        with self._changed:
            for client, line in self._lines.items():
                if item in line:
                    line.remove(item)
                    if not line:
                        del self._lines[client]
                    return True
            return False

    def close(self) -> list[Item]:
        """Give nothing more; returns what still waits."""
        with self._changed:
            self._closed = True
            rest = [item for line in self._lines.values() for item in line]
            self._lines.clear()
            self._changed.notify_all()
            return rest
