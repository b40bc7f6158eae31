"""The one thread that computes, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING

from vpt_edge.server.errors import RequestError
from vpt_edge.server.fair_queue import FairQueue, QueueClosedError, QueueFullError
from vpt_edge.server.plain_answer import PlainAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from vpt_edge.server.plain_answer import PlainEvent, PlainEvents

FIRST_GUESS = 5.0  # seconds of an answer, before there was one
MEMORY = 0.8  # of the mean of their seconds


def busy(retry_after: float) -> RequestError:
    problem = "the server is busy: too many requests wait"
    return RequestError(429, "queue_full", problem, "ask again later", retry_after=retry_after)


def too_slow(time_limit: float) -> RequestError:
    problem = f"the answer was not complete after {time_limit:g} seconds"
    return RequestError(422, "time_limit", problem, "ask for less: max_tokens")


def never_begun(time_limit: float) -> RequestError:
    """Of a request that waited so long: nothing is wrong with it, and it may be asked again."""
    problem = f"the server is busy: the request waited {time_limit:g} seconds and was not begun"
    return RequestError(429, "queue_time", problem, "ask again later", retry_after=time_limit / 4)


def stopping() -> RequestError:
    return RequestError(503, "stopping", "the server ends", "ask again later", retry_after=5.0)


class Job:
    """A request that waits, or is computed; ``start`` begins it, in the worker's thread.

    ``queued``, ``started`` and ``ended`` are on the monotonic clock; ``is_complete`` behind the
    last event. It belongs to the loop that runs when it is made, and fails ``time_limit`` seconds
    later.
    """

    def __init__(self, start: Callable[[], PlainEvents], time_limit: float) -> None:
        self.queued = time.monotonic()
        self.started: float | None = None
        self.ended: float | None = None
        self.is_complete = False
        self._start = start
        self._stream: PlainEvents | None = None
        self._dropped_at: float | None = None  # on the monotonic clock
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[PlainEvent | BaseException] = asyncio.Queue()
        self._timer = self._loop.call_later(time_limit, self._end_late, time_limit)

    async def next(self) -> PlainEvent:
        """Its next event. Raises what the request raises, RequestError past its time."""
        event = await self._arrived.get()
        if isinstance(event, Exception):
            raise event
        if isinstance(event, BaseException):
            raise RuntimeError(f"the answer ended with {type(event).__name__}") from event
        return event

    def fail(self, error: Exception) -> None:
        """End it between two tokens; who waits for it gets ``error``. From any thread."""
        self._deliver(error)
        self._drop()

    def _end_late(self, time_limit: float) -> None:
        if self.started is None:
            self.fail(never_begun(time_limit))
        else:
            self.fail(too_slow(time_limit))

    def cancel(self) -> None:
        """End it between two tokens; nobody waits for it any more. From its loop."""
        self._timer.cancel()
        self._drop()

    @property
    def overdue(self) -> float:
        """Seconds since nobody waits for it any more."""
        if self._dropped_at is None:
            return 0.0
        return time.monotonic() - self._dropped_at

    def _drop(self) -> None:
        if self._dropped_at is None:
            self._dropped_at = time.monotonic()
        stream = self._stream
        if stream is not None:
            stream.close()

    def run(self) -> None:
        """Compute it, in the worker's thread."""
        if self._dropped_at is not None:
            return
        self.started = time.monotonic()
        try:
            with contextlib.closing(self._start()) as stream:
                self._stream = stream
                if self._dropped_at is not None:  # perhaps before there was a stream to close
                    return
                for event in stream:
                    self._deliver(event)
                    self.is_complete = isinstance(event, PlainAnswer)
        except BaseException as error:  # whatever a library raises: the next one has its turn
            self._deliver(error)
        finally:
            self.ended = time.monotonic()

    def _deliver(self, event: PlainEvent | BaseException) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, event)


class Worker:
    """Computes one request after the other, whole: none waits between its looks for another.

    ``size``: how many may wait. ``time_limit``: seconds for each, its waiting included.
    ``step_seconds``: the longest that one step of an answer may take.
    """

    def __init__(self, size: int, time_limit: float, step_seconds: float) -> None:
        self._time_limit = time_limit
        self._step_seconds = step_seconds
        self._queue: FairQueue[Job] = FairQueue(size)
        self._job: Job | None = None
        self._mean_seconds = FIRST_GUESS
        self._thread = threading.Thread(target=self._run, name="vpt-edge-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        """How many are computed: one, or none."""
        if self._job is None:
            return 0
        return 1

    @property
    def problem(self) -> str | None:
        """Why no request is computed any more; None where they are."""
        if self._thread.ident is not None and not self._thread.is_alive():
            return "the thread that computes has ended"
        job = self._job
        if job is None or job.overdue <= self._step_seconds:
            return None
        return (
            f"a step hangs: its request ended {job.overdue:.0f} s ago, "
            f"and a step takes at most {self._step_seconds:g} s"
        )

    @property
    def retry_after(self) -> float:
        """Seconds after which the queue has probably moved."""
        return max(1.0, self._mean_seconds * (self.waiting + self.running) / 2)

    async def events(
        self, client: str, start: Callable[[], PlainEvents]
    ) -> AsyncGenerator[PlainEvent, None]:
        """What the request of ``start`` gives; leaving the generator ends it between two tokens.

        Raises RequestError where it is not begun, or does not end in time.
        """
        job = self._submit(client, start)
        try:
            while True:
                event = await job.next()
                yield event
                if isinstance(event, PlainAnswer):
                    return
        finally:
            job.cancel()
            self._queue.remove(job)

    def _submit(self, client: str, start: Callable[[], PlainEvents]) -> Job:
        job = Job(start, self._time_limit)
        try:
            displaced = self._queue.put(client, job)
        except QueueFullError:
            job.cancel()
            raise busy(self.retry_after) from None
        except QueueClosedError:
            job.cancel()
            raise stopping() from None
        if displaced is not None:
            displaced.fail(busy(self.retry_after))
        return job

    def stop(self) -> None:
        """Take no more; what waits is refused, what is computed ends whole."""
        for job in self._queue.close():
            job.fail(stopping())

    def abandon(self) -> None:
        """End what is computed, between two tokens."""
        job = self._job
        if job is not None:
            job.fail(stopping())

    def join(self, timeout: float) -> bool:
        """Wait until the last one is computed; False where it is not after ``timeout`` seconds."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            job = self._queue.take()
            if job is None:
                return
            self._job = job
            job.run()
            self._job = None
            if job.is_complete:
                self._remember(job)

    def _remember(self, job: Job) -> None:
        """Learn how long an answer takes, from one that nobody has ended."""
        assert job.started is not None and job.ended is not None
        seconds = job.ended - job.started
        self._mean_seconds = MEMORY * self._mean_seconds + (1 - MEMORY) * seconds
