"""The newest frame of what is live, and the way back to it when it is lost."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vpt_edge.live.feed import PermanentError
from vpt_edge.live.source import Counts
from vpt_edge.live.watchdog import Watchdog
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from typing_extensions import Self

    from vpt_edge.live.feed import Feed, Picture
    from vpt_edge.live.frame import Frame
    from vpt_edge.live.framing import Framing
    from vpt_edge.live.source import State

FIRST_DELAY = 0.5  # seconds from a loss to the next try; twice as long after each that fails
LONGEST_DELAY = 8.0
JITTER = 0.25  # of a delay: cameras that went away together do not come back together
FIRST_FRAME = 15.0  # seconds to open it and to get its first frame
JOIN = 0.3  # seconds for the reader to come to its end


@dataclass(frozen=True)
class Patience:
    """``stall``: seconds without a frame until a source is lost; ``retries``: tries in a row that
    may fail until it is given up, None: without end.
    """

    stall: float = 3.0
    retries: int | None = None


def delays(longest: float | None = None) -> Iterator[float]:
    """Seconds before each try to come back, without jitter at most ``longest`` or LONGEST_DELAY."""
    delay = FIRST_DELAY
    while True:
        yield delay * (1 + random.uniform(0, JITTER))
        delay = min(2 * delay, longest or LONGEST_DELAY)


class Reader:
    """A live source: one thread reads it, and only the newest frame waits to be polled.

    Only that thread opens and closes the feed. One that is stuck in a read is left behind as a
    daemon, and what it gives later is dropped.
    """

    live = True

    def __init__(self, feed: Feed, framing: Framing, patience: Patience) -> None:
        self.name = feed.name
        self._feed = feed
        self._framing = framing
        self._patience = patience
        self._lock = threading.Lock()  # of what follows, as far as the listeners
        self._state: State = "connecting"
        self._newest: Frame | None = None
        self._problem: SourceError | None = None
        self._failure: Exception | None = None
        self._stalled = False  # since this try began
        self._counts = Counts()
        self._listeners: list[Callable[[], None]] = []
        self._closing = threading.Event()
        self._watchdog = Watchdog(self._stall, f"watchdog of {feed.name}")
        self._thread = threading.Thread(
            target=self._run, name=f"reader of {feed.name}", daemon=True
        )
        self._thread.start()

    @property
    def state(self) -> State:
        return self._state

    @property
    def problem(self) -> SourceError | None:
        return self._problem

    @property
    def counts(self) -> Counts:
        """As they are now."""
        with self._lock:
            return dataclasses.replace(self._counts, undecoded=self._feed.undecoded)

    def poll(self) -> Frame | None:
        """The newest frame that nobody took, or None.

        Raises SourceError, once, where the source ended by itself.
        """
        with self._lock:
            frame = self._newest
            failure = self._failure
            self._newest = None
            if frame is None:
                self._failure = None
        if frame is None and failure is not None:
            raise failure
        return frame

    def listen(self, notify: Callable[[], None]) -> None:
        """Call ``notify``, from any thread, when a frame came or the state changed."""
        with self._lock:
            self._listeners.append(notify)
        notify()

    def close(self) -> None:
        """End it, from any thread; within a second."""
        self._closing.set()
        with self._lock:
            self._newest = None
        self._change("ended")
        self._watchdog.stop()
        for _ in range(2):  # the first may come while it is being opened
            self._feed.interrupt()
            if self._thread is not threading.current_thread():
                self._thread.join(JOIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._read_on()
        except Exception as error:  # a refusal, or a fault of ours: whoever polls is to know
            self._give_up(error)
        finally:
            self._watchdog.stop()

    def _read_on(self) -> None:
        """Read, and come back after each loss, until it is closed."""
        fails = 0
        pauses = delays()
        while not self._closing.is_set():
            frames = self._counts.frames
            problem = self._read()
            if self._closing.is_set():
                return
            if self._counts.frames > frames:
                fails = 0
                pauses = delays()
            self._lose(problem, fails)
            fails += 1
            self._closing.wait(next(pauses))
            self._change("connecting")

    def _read(self) -> SourceError:
        """Read until it is lost: why."""
        self._stalled = False
        self._watchdog.expect(max(FIRST_FRAME, self._patience.stall))
        opens = self._counts.opens
        try:
            with closing(self._feed.pictures()) as pictures:
                for picture in pictures:
                    self._watchdog.expect(self._patience.stall)
                    self._take(picture, is_first=self._counts.opens == opens)
                    if self._closing.is_set():
                        break
        except SourceError as error:
            problem = error.with_traceback(None)  # it would keep the last pictures
        else:
            problem = SourceError(f"{self.name} ended")
        finally:
            self._watchdog.rest()
        if self._stalled and self._problem is not None:
            return self._problem
        return problem

    def _take(self, picture: Picture | Frame, is_first: bool) -> None:
        frame = self._framing.frame(picture)
        with self._lock:
            if self._closing.is_set():
                return
            if is_first:
                self._counts.opens += 1
            self._drop()
            self._counts.frames += 1
            self._newest = frame
            self._state = "live"
            self._problem = None
        self._notify()

    def _lose(self, problem: SourceError, fails: int) -> None:
        """Say that it is lost; raise ``problem`` where it is not to be tried again."""
        with self._lock:
            if self._state in ("live", "stalled"):
                self._counts.losses += 1
        retries = self._patience.retries
        is_refused = isinstance(problem, PermanentError) and self._counts.opens == 0
        if is_refused or (retries is not None and fails >= retries):
            raise problem
        with self._lock:
            self._problem = problem
            self._drop()
        self._change("lost")

    def _stall(self) -> None:
        """The watchdog's: there was no picture for too long."""
        with self._lock:
            seconds = max(FIRST_FRAME, self._patience.stall)
            if self._state == "live":
                self._state = "stalled"
                seconds = self._patience.stall
            self._stalled = True
            self._problem = SourceError(f"{self.name} gave no picture for {seconds:g} s")
            self._drop()
        self._notify()
        self._feed.interrupt()

    def _drop(self) -> None:
        """Forget the frame that nobody took: there is a newer one, or it is of before an outage."""
        if self._newest is not None:
            self._counts.dropped += 1
        self._newest = None

    def _give_up(self, failure: Exception) -> None:
        with self._lock:
            if not self._closing.is_set():
                self._failure = failure
                if isinstance(failure, SourceError):
                    self._problem = failure
        self._change("ended")

    def _change(self, state: State) -> None:
        with self._lock:
            if self._state == "ended":
                return
            self._state = state
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for notify in listeners:
            notify()
