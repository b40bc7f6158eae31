"""A source that is watched, for those who look at it and those who ask."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from vpt_edge.live.subject import WatchCounts
from vpt_edge.runtime.errors import SourceError
from vpt_edge.server.errors import RequestError
from vpt_edge.server.shot import Shot
from vpt_edge.server.source_metrics import SourceStatus
from vpt_edge.server.still import Still, describe_frame
from vpt_edge.server.worker import stopping

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from vpt_edge.live.source import Source, State
    from vpt_edge.server.still import View

PATIENCE = 2.0  # seconds in which a question waits for a frame of its own
KEPT = 8  # frames that were asked about last, for who wants to see them
RETRY_AFTER = 5.0  # seconds, where a source is away

log = logging.getLogger("vpt_edge.server")


def is_other(number: int | None, still: Still) -> bool:
    """Whether ``still`` has another ``number``."""
    return still.frame.number != number


def is_since(moment: float, still: Still) -> bool:
    """Whether ``still`` was captured at ``moment``, on the monotonic clock, or later."""
    return still.frame.monotonic >= moment


class LiveSource:
    """The newest frame of ``source``, and the ones that were asked about last.

    ``name``: short, as it stands in a URL. From ``start`` on to be used in its event loop. It
    takes each frame when it comes, and decodes none that nobody wants; however many wait for one,
    there is no thread for them.
    """

    def __init__(self, name: str, source: Source, pool: Executor) -> None:
        self.name = name
        self.newest: Still | None = None
        self.is_stopped = False
        self._source = source
        self._pool = pool
        self._frames = 0
        self._requests = 0
        self._unanswered = 0
        self._asked = 0  # frames
        self._shots: deque[Still] = deque(maxlen=KEPT)
        self._told: State = "connecting"
        self._waiting = set[asyncio.Event]()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def state(self) -> State:
        return self._source.state

    @property
    def is_over(self) -> bool:
        """Whether no frame will come any more."""
        return self.is_stopped or self.state == "ended"

    def start(self) -> None:
        """Take frames from now on, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._source.listen(self._notify)

    def stop(self) -> None:
        """Let nobody wait any more; from any thread."""
        self.is_stopped = True
        self._notify()

    def close(self) -> None:
        """End the source, within a second; from any thread."""
        self.stop()
        self._source.close()

    def _notify(self) -> None:
        """From any thread."""
        if self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        frame = None
        with contextlib.suppress(SourceError):  # which stays its ``problem``
            frame = self._source.poll()
        if frame is not None:
            self._frames += 1
            self.newest = Still(frame, self._pool)
        self._tell(self.state)
        for changed in self._waiting:
            changed.set()

    def _tell(self, state: State) -> None:
        """The operator, what became of it; but not each try to come back."""
        if state in ("connecting", self._told) or self.is_stopped:
            return
        self._told = state
        if state == "live":
            log.info("%s is live", self.name)
        else:
            log.warning("%s", self.describe_state())

    def describe_state(self) -> str:
        """In words, such as ``camera is lost: rtsp://camera/stream does not answer``."""
        text = f"{self.name} is {self.state}"
        if self._source.problem is not None:
            text += f": {self._source.problem}"
        return text

    async def next_view(self, after: int | None, seconds: float) -> View | None:
        """Its newest frame, when that has another number than ``after``; None where none comes
        within ``seconds``.

        Any other number will do: a server that was started anew counts from 0.
        """
        deadline = time.monotonic() + seconds
        while True:
            still = await self._wait(partial(is_other, after), deadline)
            if still is None:
                return None
            try:
                return await still.view()
            except SourceError:  # a broken frame: the next one
                after = still.frame.number

    async def shoot(self, arrival: float) -> Shot:
        """The frame for a question that came at ``arrival``, on the monotonic clock: the first
        that was captured since, or the newest of a source which has none within 2 s.

        Raises RequestError where the source is away.
        """
        self._requests += 1
        still = None
        if not self.is_over:
            deadline = time.monotonic() + PATIENCE
            still = await self._wait(partial(is_since, arrival), deadline)
        if self.is_stopped:
            raise stopping()
        if still is None and self.state == "live":
            still = self.newest
        if still is None:
            self._unanswered += 1
            fix = "ask again when it is back: GET /sources"
            raise RequestError(
                503,
                "source_unavailable",
                self.describe_state(),
                fix,
                param="messages",
                retry_after=RETRY_AFTER,
            )
        self._keep(still)
        return Shot(self.name, still, still.frame.age)

    def _keep(self, still: Still) -> None:
        if still in self._shots:
            return
        self._asked += 1
        for other in self._shots:
            other.forget_picture()
        self._shots.append(still)

    def find(self, number: int) -> Still | None:
        """The frame of that ``number``, as long as it is kept."""
        for still in self._shots:
            if still.frame.number == number:
                return still
        if self.newest is not None and self.newest.frame.number == number:
            return self.newest
        return None

    async def _wait(self, is_wanted: Callable[[Still], bool], deadline: float) -> Still | None:
        """The newest frame, when it ``is_wanted``; None at the ``deadline``, and when it stops."""
        while True:
            still = self.newest
            if still is not None and is_wanted(still):
                return still
            rest = deadline - time.monotonic()
            if rest <= 0 or self.is_stopped:
                return None
            await self._wait_change(rest)

    async def _wait_change(self, seconds: float) -> None:
        """Until something changed, for at most so many ``seconds``."""
        changed = asyncio.Event()  # asyncio.wait_for would lose a cancellation, before Python 3.12
        timer = asyncio.get_running_loop().call_later(seconds, changed.set)
        self._waiting.add(changed)
        try:
            await changed.wait()
        finally:
            self._waiting.discard(changed)
            timer.cancel()

    def to_dict(self) -> dict[str, Any]:
        """How it fares, as JSON types."""
        newest = None
        if self.newest is not None:
            newest = describe_frame(self.newest.frame)
        problem = None
        if self._source.problem is not None:
            problem = str(self._source.problem)
        counts = self.counts
        return {
            "name": self.name,
            "state": self.state,
            "problem": problem,
            "frames": counts.frames,
            "asked": counts.asked,
            "requests": counts.requests,
            "unanswered": counts.unanswered,
            "reconnects": counts.reconnects,
            "frame": newest,
        }

    @property
    def counts(self) -> WatchCounts:
        """Frames that nobody asked about are counted as ``every``, as they are by a watch."""
        counts = self._source.counts
        return WatchCounts(
            source=self.name,
            frames=counts.frames,
            asked=self._asked,
            failures=0,
            busy=counts.dropped,
            every=self._frames - self._asked,
            gate=0,
            reconnects=max(0, counts.opens - 1),
            requests=self._requests,
            unanswered=self._unanswered,
        )

    @property
    def status(self) -> SourceStatus:
        """For the metrics."""
        age = None
        if self.newest is not None:
            age = self.newest.frame.age
        return SourceStatus(self.name, self.state == "live", age, self.counts)
