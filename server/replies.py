"""What a watch says to one request, brought from its thread to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TypeAlias

from vpt_edge.live.seen import Failure, Seen

Result: TypeAlias = "Seen | Failure"


class Replies:
    """Of each source an answer to each of so many ``questions``, or one failure."""

    def __init__(self, questions: int) -> None:
        self._questions = questions
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Result | None] = asyncio.Queue()

    def put(self, result: Result) -> None:
        """From any thread."""
        self._put(result)

    def end(self) -> None:
        """Nothing more will come; from any thread."""
        self._put(None)

    def _put(self, result: Result | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, result)

    async def collect(self, sources: int, seconds: float) -> list[Result]:
        """Those of so many ``sources``, or what came of them within ``seconds``."""
        timer = self._loop.call_later(seconds, self._arrived.put_nowait, None)
        results = list[Result]()
        answers = Counter[str]()
        try:
            while sources:
                result = await self._arrived.get()
                if result is None:
                    break
                results.append(result)
                name = result.frame.source
                answers[name] += 1
                if isinstance(result, Failure) or answers[name] == self._questions:
                    sources -= 1
        finally:
            timer.cancel()
        return results
