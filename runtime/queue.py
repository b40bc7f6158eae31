"""Requests one after another, whichever threads and loops wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.result import Finished, Text

if TYPE_CHECKING:
    from collections.abc import Generator

    from vpt_edge.runtime.result import Event

SILENCE = Text("")  # of a token without text: a request may be ended behind it; nobody is told


class Job:
    """A request on its way: what it still does, and what nobody has taken yet."""

    def __init__(self, steps: Generator[Event, None, None]) -> None:
        self.steps = steps
        self.events: deque[Event] = deque()
        self.error: Exception | None = None
        self.over = False
        self.dropped = False  # set without a lock: the collector may do it in the midst of anything


class EventStream(Iterator["Event"]):
    """The events of a request, as they happen.

    Any thread may take the next one. ``close``, and letting go of the stream, ends the request
    between two tokens.
    """

    def __init__(self, queue: RequestQueue, steps: Generator[Event, None, None]) -> None:
        self._queue = queue
        self._job = Job(steps)

    def __next__(self) -> Event:
        event = self._queue.next_event(self._job)
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """End the request; there are no more events."""
        self._job.dropped = True

    def __del__(self) -> None:
        self.close()


class RequestQueue:
    """Runs one request at a time, in the order in which they were begun.

    A request belongs to no thread: whoever waits for an event runs the first request, a token at a
    time, until the event is there. So a reader that is slow, gone or another thread's holds up
    nobody, and finds its events when it comes back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for no longer than a glance
        self._changed = threading.Condition(self._lock)
        self._jobs: deque[Job] = deque()
        self._runner = 0  # the thread that runs a step
        self._closed = False
        self._worker = ThreadPoolExecutor(1, "vpt-edge")  # of asynchronous requests

    def next_event(self, job: Job) -> Event | None:
        """The next event of ``job``; None behind the last. Raises what the request raises."""
        while True:
            with self._lock:
                if self._runner == threading.get_ident():
                    raise VptError(
                        "a request was begun from within a request of the same pipeline",
                        "begin it when the other one has ended",
                    )
                if job.events and not job.dropped:
                    return job.events.popleft()
                if self._is_over(job):
                    return None
                if job not in self._jobs:
                    self._jobs.append(job)
                first = self._take_first()
            if first is not None:
                self._run_step(first)

    def run(self, task: Callable[[], object]) -> None:
        """Run ``task`` when the requests before it are done."""

        def steps() -> Generator[Event, None, None]:
            task()
            yield from ()

        job = Job(steps())
        try:
            self.next_event(job)
        finally:
            job.dropped = True

    async def follow(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        """The events of ``stream`` for the running loop, taken by a thread that is kept for it."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Event | Exception] = asyncio.Queue()

        def deliver(event: Event | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(arrived.put_nowait, event)

        def run() -> None:
            try:
                for event in stream:
                    deliver(event)
            except Exception as error:
                deliver(error)

        waiting = self._worker.submit(run)
        try:
            while True:
                event = await arrived.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            stream.close()
            waiting.cancel()

    def close(self) -> None:
        """Let every request end with an error, between two tokens; returns when none is running."""
        with self._lock:
            self._closed = True
            while self._runner not in (0, threading.get_ident()):
                self._changed.wait()
            self._jobs.clear()
            self._changed.notify_all()
        self._worker.shutdown(wait=False)

    def check_open(self) -> None:
        """Raise VptError once it is closed."""
        if self._closed:
            raise VptError("the pipeline is closed", "open it again: Pipeline(bundle)")

    def _is_over(self, job: Job) -> bool:
        if job.dropped:
            return True
        if job.error is not None:
            error = job.error
            job.error = None
            raise error
        if job.over:
            return True
        self.check_open()
        return False

    def _take_first(self) -> Job | None:
        """The job to run a step of; None, after a while, where another thread runs one."""
        if self._runner:
            self._changed.wait()
            return None
        while self._jobs and self._jobs[0].dropped:
            self._jobs.popleft().steps.close()
        if not self._jobs:
            return None
        self._runner = threading.get_ident()
        return self._jobs[0]

    def _run_step(self, job: Job) -> None:
        """Run ``job`` to its next event; an error of its own is kept for who waits for it."""
        event = None
        error = None
        try:
            event = next(job.steps, None)
        except Exception as failure:
            error = failure
        except BaseException:
            error = VptError("the request was interrupted", "ask again")
            raise
        finally:
            with self._lock:
                self._runner = 0
                job.error = error
                if event is None:
                    job.over = True
                    self._jobs = deque(other for other in self._jobs if other is not job)
                elif event != SILENCE:
                    job.events.append(event)
                self._changed.notify_all()
