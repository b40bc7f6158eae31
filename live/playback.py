"""Every frame of what waits for its reader: files, pictures, whatever can be iterated."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from vpt_edge.live.source import Counts
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from typing_extensions import Self

    from vpt_edge.live.feed import Feed, Picture, Pictures
    from vpt_edge.live.frame import Frame
    from vpt_edge.live.framing import Framing
    from vpt_edge.live.source import State


class Playback:
    """A source whose frames are read when they are polled, by whoever polls; none is dropped."""

    live = False

    def __init__(self, feed: Feed, framing: Framing) -> None:
        self.name = feed.name
        self._feed = feed
        self._framing = framing
        self._pictures: Pictures | None = feed.pictures()
        self._ahead: Picture | Frame | None = None
        self._lock = threading.Lock()  # of what is above: one reads at a time
        self._state: State = "connecting"
        self._problem: SourceError | None = None
        self._counts = Counts()
        self._listeners: list[Callable[[], None]] = []
        self._closing = threading.Event()

    @property
    def state(self) -> State:
        return self._state

    @property
    def problem(self) -> SourceError | None:
        return self._problem

    @property
    def counts(self) -> Counts:
        """As they are now."""
        return dataclasses.replace(self._counts, undecoded=self._feed.undecoded)

    def prepare(self) -> Self:
        """Read the first picture now. Raises SourceError where there is none."""
        with self._lock:
            self._ahead = self._next()
        return self

    def poll(self) -> Frame | None:
        """The next frame, or None at the end.

        Raises SourceError, once, where it ended before its time.
        """
        with self._lock:
            picture = self._ahead or self._next()
            self._ahead = None
            if picture is None or self._closing.is_set():
                self._finish()
                return None
            frame = self._framing.frame(picture)
            self._counts.frames += 1
        return frame

    def listen(self, notify: Callable[[], None]) -> None:
        """Call ``notify`` now, as frames wait already, and at the end."""
        self._listeners.append(notify)
        notify()

    def close(self) -> None:
        """End it, from any thread: at once, or with the picture that is being read."""
        self._closing.set()
        self._state = "ended"
        self._feed.interrupt()
        if self._lock.acquire(blocking=False):
            try:
                self._finish()
            finally:
                self._lock.release()
        for notify in list(self._listeners):
            notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _next(self) -> Picture | Frame | None:
        """The next picture, read by this thread; None at the end."""
        if self._pictures is None or self._closing.is_set():
            return None
        try:
            picture = next(self._pictures, None)
        except Exception as error:
            if isinstance(error, SourceError):
                self._problem = error
            self._finish()
            raise
        if picture is not None and self._state == "connecting":
            self._state = "live"
            self._counts.opens += 1
        return picture

    def _finish(self) -> None:
        self._state = "ended"
        if self._pictures is not None:
            self._pictures.close()
        self._pictures = None
