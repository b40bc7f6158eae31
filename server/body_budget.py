"""What the bodies of all requests take in memory, together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.server.errors import RequestError

if TYPE_CHECKING:
    from starlette.types import Message, Receive


class BodyBudget:
    """At most ``limit`` bytes of bodies at a time, each counted until its request has ended."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit

    def count(self, receive: Receive) -> CountedBody:
        return CountedBody(self, receive)

    def take(self, size: int) -> None:
        """Raises RequestError where there is not so much left."""
        if self.used + size > self._limit:
            problem = "the server is busy: the bodies of other requests fill its memory"
            raise RequestError(503, "too_many_bodies", problem, "ask later", retry_after=2.0)
        self.used += size


class CountedBody:
    """The body of one request, from ``receive``."""

    def __init__(self, budget: BodyBudget, receive: Receive) -> None:
        self._budget = budget
        self._receive = receive
        self._size = 0

    async def receive(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self._budget.take(size)
        self._size += size
        return message

    def release(self) -> None:
        self._budget.used -= self._size
        self._size = 0
