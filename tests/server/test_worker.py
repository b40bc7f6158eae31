"""What waits and what is computed, with streams that go on when they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from vpt_edge.runtime import Text
from vpt_edge.server.errors import RequestError
from vpt_edge.server.plain_answer import PlainAnswer
from vpt_edge.server.worker import Worker

if TYPE_CHECKING:
    from vpt_edge.server.plain_answer import PlainEvent, PlainEvents

LONG = 10.0
NO_USAGE: Any = None
END = PlainAnswer("", (), (), "stop", NO_USAGE, "", ((1, 1),))


class Stream:
    """Gives the events that are put into ``events``, until it is closed."""

    def __init__(self) -> None:
        self.events: queue.Queue[PlainEvent | Exception | None] = queue.Queue()
        self.begun = threading.Event()
        self.closed = threading.Event()

    def start(self) -> PlainEvents:
        self.begun.set()
        return cast("PlainEvents", self)

    def __iter__(self) -> Iterator[PlainEvent]:
        while not self.closed.is_set():
            event = self.events.get()
            if isinstance(event, Exception):
                raise event
            if event is not None and not self.closed.is_set():
                yield event

    def close(self) -> None:
        self.closed.set()
        self.events.put(None)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(2, LONG, LONG)
    worker.start()
    yield worker
    worker.stop()
    worker.abandon()
    assert worker.join(LONG)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 2 * LONG))


async def collect(events: AsyncGenerator[PlainEvent, None]) -> list[PlainEvent]:
    async with contextlib.aclosing(events):
        return [event async for event in events]


def submit(worker: Worker, stream: Stream, client: str = "a") -> asyncio.Task[list[PlainEvent]]:
    return asyncio.ensure_future(collect(worker.events(client, stream.start)))


async def wait_for(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def refusal(task: asyncio.Task[list[PlainEvent]]) -> RequestError:
    with pytest.raises(RequestError) as error:
        await task
    return error.value


def test_one_is_computed_whole_before_the_next(worker: Worker) -> None:
    async def work() -> None:
        first = Stream()
        second = Stream()
        tasks = [submit(worker, first), submit(worker, second, "b")]
        await wait_for(first.begun.is_set)
        second.events.put(END)
        first.events.put(Text("one"))
        await asyncio.sleep(0.02)
        assert not second.begun.is_set()
        assert (worker.running, worker.waiting) == (1, 1)
        first.events.put(END)
        assert await tasks[0] == [Text("one"), END]
        assert await tasks[1] == [END]
        assert first.closed.is_set() and second.closed.is_set()

    run(work)


def test_an_error_is_the_requests(worker: Worker) -> None:
    async def work() -> None:
        stream = Stream()
        stream.events.put(ValueError("odd"))
        with pytest.raises(ValueError, match="odd"):
            await submit(worker, stream)
        other = Stream()
        other.events.put(END)
        assert await submit(worker, other) == [END]

    run(work)


def test_what_ends_a_program_ends_one_answer(worker: Worker) -> None:
    async def work() -> None:
        def fail() -> PlainEvents:
            raise SystemExit

        with pytest.raises(RuntimeError, match="SystemExit"):
            await collect(worker.events("a", fail))
        stream = Stream()
        task = submit(worker, stream)
        await wait_for(stream.begun.is_set)  # the thread lives
        task.cancel()

    run(work)


def test_more_than_may_wait_are_told_when_to_come_again(worker: Worker) -> None:
    async def work() -> None:
        streams = [Stream() for _ in range(3)]
        tasks = [submit(worker, streams[0])]
        await wait_for(streams[0].begun.is_set)
        tasks += [submit(worker, stream) for stream in streams[1:]]
        await wait_for(lambda: worker.waiting == 2)
        error = await refusal(submit(worker, Stream()))
        assert (error.status, error.code) == (429, "queue_full")
        assert error.retry_after == worker.retry_after >= 1
        displaced = submit(worker, Stream(), "b")
        assert (await refusal(tasks[2])).code == "queue_full"
        displaced.cancel()
        for stream in streams[:2]:
            stream.events.put(END)
        await asyncio.gather(*tasks[:2])

    run(work)


def test_who_goes_away_ends_what_is_computed(worker: Worker) -> None:
    async def work() -> None:
        stream = Stream()
        task = submit(worker, stream)
        await wait_for(stream.begun.is_set)
        task.cancel()
        await wait_for(lambda: stream.closed.is_set() and not worker.running)

    run(work)


def test_who_goes_away_waits_no_more(worker: Worker) -> None:
    async def work() -> None:
        first = Stream()
        second = Stream()
        task = submit(worker, first)
        await wait_for(first.begun.is_set)
        waiting = submit(worker, second)
        await wait_for(lambda: worker.waiting == 1)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert worker.waiting == 0
        first.events.put(END)
        await task
        await asyncio.sleep(0.02)
        assert not second.begun.is_set()

    run(work)


def test_who_goes_away_in_the_moment_of_an_event_is_not_overlooked(worker: Worker) -> None:
    """asyncio.wait_for of Python 3.11 forgets a cancellation that comes together with a result."""

    async def work() -> None:
        for _ in range(50):
            stream = Stream()
            task = submit(worker, stream)
            await wait_for(stream.begun.is_set)
            stream.events.put(Text("x"))
            time.sleep(0.002)  # the event has come, and the loop has not seen it
            task.cancel()
            await asyncio.wait((task,), timeout=LONG)
            assert task.cancelled()

    run(work)


def test_an_answer_has_its_time() -> None:
    worker = Worker(2, 0.5, LONG)
    worker.start()

    async def work() -> None:
        stream = Stream()
        running = submit(worker, stream)
        await wait_for(stream.begun.is_set)
        error = await refusal(running)
        assert (error.status, error.code) == (422, "time_limit")
        await wait_for(stream.closed.is_set)

    run(work)
    worker.stop()
    assert worker.join(LONG)


def test_one_that_waited_its_time_in_vain_may_be_asked_again() -> None:
    worker = Worker(2, 0.05, LONG)  # that computes nothing

    async def work() -> None:
        error = await refusal(submit(worker, Stream()))
        assert (error.status, error.code) == (429, "queue_time")
        assert error.retry_after is not None
        assert worker.waiting == 0

    run(work)


def test_a_client_that_reads_late_gets_what_was_computed_in_time() -> None:
    worker = Worker(2, 0.1, LONG)
    worker.start()

    async def work() -> None:
        stream = Stream()
        events = worker.events("a", stream.start)
        stream.events.put(Text("one"))
        assert await anext(events) == Text("one")
        stream.events.put(END)
        await wait_for(lambda: not worker.running)
        await asyncio.sleep(0.15)
        assert await anext(events) == END
        await events.aclose()

    run(work)
    worker.stop()
    assert worker.join(LONG)


def test_the_end_lets_one_be_computed_and_refuses_the_others() -> None:
    worker = Worker(2, LONG, LONG)
    worker.start()

    async def work() -> None:
        stream = Stream()
        task = submit(worker, stream)
        await wait_for(stream.begun.is_set)
        waiting = submit(worker, Stream())
        await wait_for(lambda: worker.waiting == 1)
        worker.stop()
        for each in (waiting, submit(worker, Stream())):
            error = await refusal(each)
            assert (error.status, error.code) == (503, "stopping")
        assert not worker.join(0.01)
        stream.events.put(END)
        assert await task == [END]

    run(work)
    assert worker.join(LONG)


def test_what_takes_too_long_at_the_end_is_abandoned() -> None:
    worker = Worker(2, LONG, LONG)
    worker.start()

    async def work() -> None:
        stream = Stream()
        task = submit(worker, stream)
        await wait_for(stream.begun.is_set)
        worker.stop()
        worker.abandon()
        assert (await refusal(task)).code == "stopping"

    run(work)
    assert worker.join(LONG)


def test_only_whole_answers_tell_how_long_one_takes(worker: Worker) -> None:
    async def work() -> None:
        before = worker._mean_seconds
        stream = Stream()
        task = submit(worker, stream)
        await wait_for(stream.begun.is_set)
        task.cancel()
        await wait_for(lambda: not worker.running)
        assert worker._mean_seconds == before
        whole = Stream()
        whole.events.put(END)
        await submit(worker, whole)
        await wait_for(lambda: worker._mean_seconds < before)

    run(work)


def test_who_is_refused_is_forgotten(worker: Worker) -> None:
    """With its picture, and at once: not when its time would be over."""

    async def work() -> None:
        streams = [Stream() for _ in range(3)]
        tasks = [submit(worker, streams[0])]
        await wait_for(streams[0].begun.is_set)
        tasks += [submit(worker, stream) for stream in streams[1:]]
        await wait_for(lambda: worker.waiting == 2)
        refused = Stream()
        reference = weakref.ref(refused)
        await refusal(submit(worker, refused))
        del refused
        await asyncio.sleep(0.01)
        gc.collect()
        assert reference() is None
        for task in tasks:
            task.cancel()

    run(work)


def test_one_that_was_never_started_ends_at_once() -> None:
    worker = Worker(2, LONG, LONG)
    worker.stop()
    assert worker.join(LONG)


class Hung(Stream):
    """Goes on when it is told to, whoever has closed it."""

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("time_limit", [0.1, LONG])
def test_a_step_that_does_not_end_behind_its_request_is_a_problem(time_limit: float) -> None:
    worker = Worker(2, time_limit, 0.1)
    worker.start()

    async def work() -> None:
        stream = Hung()
        task = submit(worker, stream)
        await wait_for(stream.begun.is_set)
        if time_limit == LONG:
            assert worker.problem is None
            task.cancel()
        await asyncio.wait((task,))
        await wait_for(lambda: worker.problem)
        assert str(worker.problem).startswith("a step hangs: its request ended ")
        stream.events.put(None)
        await wait_for(lambda: not worker.running)
        assert worker.problem is None

    run(work)
    worker.stop()
    assert worker.join(LONG)


def test_a_thread_that_is_gone_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(2, LONG, LONG)
    assert worker.problem is None
    monkeypatch.setattr(worker._queue, "take", lambda: None)
    worker.start()
    assert worker.join(LONG)
    assert worker.problem == "the thread that computes has ended"
