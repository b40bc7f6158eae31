"""Every way in which an application asks a question, and what came of it in words.

A way gives the events of a request, in words, the last of which is the answer or an error; some
give the last alone, and some, which leave the request, the first ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vpt_edge.runtime import Finished, Looked, Pipeline, Text, VptError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vpt_edge.runtime import Answer
    from vpt_edge.runtime.result import Event

LONG = 120  # seconds, after which a request counts as hanging
PLACES = 7  # in which a request may be left


class Question(NamedTuple):
    """``picture``: a picture, or what is not one."""

    picture: Any
    text: str
    options: dict[str, Any]

    @property
    def place(self) -> int:
        """Where it is left, if it is."""
        return len(self.text) % PLACES


Way: TypeAlias = Callable[[Pipeline, Question], list[str]]


def describe(event: Event) -> str:
    if isinstance(event, Text):
        return f"text {event.piece}"
    if isinstance(event, Finished):
        return describe_answer(event.answer)
    if isinstance(event, Looked):
        return event.describe()
    return repr(event)


def describe_answer(answer: Answer) -> str:
    ids = [turn.generated_ids for turn in answer.turns]
    return f"answer {answer.raw!r}, {answer.finish_reason}, of {ids}"


def describe_error(error: VptError) -> str:
    return f"{type(error).__name__}: {error}"


def ask(pipeline: Pipeline, question: Question) -> list[str]:
    try:
        answer = pipeline.ask(question.picture, question.text, **question.options)
    except VptError as error:
        return [describe_error(error)]
    return [describe_answer(answer)]


def ask_in_a_loop(pipeline: Pipeline, question: Question) -> list[str]:
    asking = pipeline.aask(question.picture, question.text, **question.options)
    try:
        answer = asyncio.run(asking)
    except VptError as error:
        return [describe_error(error)]
    return [describe_answer(answer)]


def _follow(begin: Callable[[], Iterable[Event]]) -> list[str]:
    events = []
    try:
        for event in begin():
            events.append(describe(event))
    except VptError as error:
        events.append(describe_error(error))
    return events


def stream(pipeline: Pipeline, question: Question) -> list[str]:
    return _follow(lambda: pipeline.stream(question.picture, question.text, **question.options))


def forget_before(pipeline: Pipeline, question: Question) -> list[str]:
    pipeline.forget()
    return stream(pipeline, question)


def drive_by_a_pool(pipeline: Pipeline, question: Question) -> list[str]:
    """Each event on whichever thread is free."""

    def begin() -> Iterable[Event]:
        events = pipeline.stream(question.picture, question.text, **question.options)
        with ThreadPoolExecutor(2) as pool:
            while (event := pool.submit(next, events, None).result(LONG)) is not None:
                yield event

    return _follow(begin)


def close_its_picture(pipeline: Pipeline, question: Question) -> list[str]:
    """While it is asked about."""

    def begin() -> Iterable[Event]:
        with pipeline.encode(question.picture) as encoded:
            events = encoded.stream(question.text, **question.options)
            yield next(events)
        yield from events

    return _follow(begin)


def leave(pipeline: Pipeline, question: Question) -> list[str]:
    """A stream, after some of its events; half of them are closed, the others let go."""

    def begin() -> Iterable[Event]:
        events = pipeline.stream(question.picture, question.text, **question.options)
        for _, event in zip(range(question.place), events, strict=False):
            yield event
        if question.place % 2:
            events.close()

    return _follow(begin)


def cancel(pipeline: Pipeline, question: Question) -> list[str]:
    """A task, wherever it is."""
    seen = []

    async def read() -> None:
        events = pipeline.astream(question.picture, question.text, **question.options)
        async with aclosing(events):
            async for event in events:
                seen.append(describe(event))

    async def main() -> None:
        task = asyncio.create_task(read())
        await asyncio.sleep(0.01 * question.place)
        task.cancel()
        with suppress(asyncio.CancelledError, VptError):
            await task

    asyncio.run(main())
    return seen


WHOLE: tuple[Way, ...] = (stream, forget_before, drive_by_a_pool, close_its_picture)
LAST: tuple[Way, ...] = (ask, ask_in_a_loop)
FIRST: tuple[Way, ...] = (leave, cancel)
