from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from sources import frame

from vpt_edge.live.seen import Failure, Seen
from vpt_edge.runtime.errors import SourceError
from vpt_edge.server.replies import Replies

if TYPE_CHECKING:
    from vpt_edge.server.replies import Result

LONG = 20.0


def seen(source: str) -> Seen:
    return Seen(frame(0, source=source), "Open?", cast(Any, None), 0.0, 0.0)


def failure(source: str) -> Failure:
    return Failure(frame(0, source=source), SourceError("broken"))


def collect(
    *results: Result, sources: int, questions: int = 1, seconds: float = LONG
) -> tuple[list[Result], float]:
    """What was collected of ``results``, which come from another thread, and in which time."""

    async def work() -> list[Result]:
        replies = Replies(questions)

        def put() -> None:
            for result in results:
                replies.put(result)

        threading.Thread(target=put).start()
        return await replies.collect(sources, seconds)

    begin = time.monotonic()
    collected = asyncio.run(work())
    return collected, time.monotonic() - begin


def test_each_source_answers_each_question() -> None:
    results = [seen("a"), seen("b"), seen("a"), seen("b")]
    collected, seconds = collect(*results, sources=2, questions=2)
    assert collected == results
    assert seconds < LONG


def test_a_failure_is_all_that_comes_of_a_source() -> None:
    results: list[Result] = [failure("a"), seen("b"), seen("b")]
    collected, seconds = collect(*results, sources=2, questions=2)
    assert collected == results
    assert seconds < LONG


def test_what_is_missing_is_waited_for_so_long() -> None:
    collected, _ = collect(seen("a"), sources=2, seconds=0.05)
    assert len(collected) == 1


def test_an_end_waits_for_nothing() -> None:
    async def work() -> list[Any]:
        replies = Replies(1)
        threading.Thread(target=replies.end).start()
        return await replies.collect(1, LONG)

    begin = time.monotonic()
    assert asyncio.run(work()) == []
    assert time.monotonic() - begin < LONG


def test_what_comes_when_the_loop_has_ended_harms_nobody() -> None:
    async def begin() -> Replies:
        return Replies(1)

    asyncio.run(begin()).put(seen("a"))
