"""A source whose frames somebody else gets as well."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from typing_extensions import Self

    from vpt_edge.live.frame import Frame
    from vpt_edge.live.source import Counts, Source, State


class Tee:
    """``source``, each frame of which is given to ``deliver`` too, such as for a video.

    Those of a live source by a thread of its own, whatever whoever polls is busy with; those of a
    file when they are polled.
    """

    def __init__(self, source: Source, deliver: Callable[[Frame], object]) -> None:
        self._source = source
        self._deliver = deliver
        self._lock = threading.Lock()
        self._newest: Frame | None = None
        self._dropped = 0
        self._failure: SourceError | None = None
        self._listeners: list[Callable[[], None]] = []
        self._changed = threading.Event()
        if source.live:
            source.listen(self._changed.set)
            name = f"frames of {source.name}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def live(self) -> bool:
        return self._source.live

    @property
    def state(self) -> State:
        return self._source.state

    @property
    def problem(self) -> SourceError | None:
        return self._source.problem

    @property
    def counts(self) -> Counts:
        """Those of the source, and what was dropped here."""
        counts = self._source.counts
        return dataclasses.replace(counts, dropped=counts.dropped + self._dropped)

    def poll(self) -> Frame | None:
        if not self.live:
            frame = self._source.poll()
            if frame is not None:
                self._deliver(frame)
            return frame
        with self._lock:
            frame = self._newest
            self._newest = None
            failure = self._failure
        if frame is None and failure is not None:
            raise failure
        return frame

    def listen(self, notify: Callable[[], None]) -> None:
        if not self.live:
            self._source.listen(notify)
            return
        with self._lock:
            self._listeners.append(notify)
        notify()

    def close(self) -> None:
        self._source.close()
        self._changed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        """Take frames as they come, until the source has ended."""
        while True:
            self._changed.clear()
            is_last = self._source.state == "ended"
            try:
                frame = self._source.poll()
            except SourceError as error:
                self._failure = error
                self._notify()
                return
            if frame is not None:
                self._deliver(frame)
                self._keep(frame)
            self._notify()
            if frame is None and is_last:
                return
            if frame is None:
                self._changed.wait()

    def _keep(self, frame: Frame) -> None:
        with self._lock:
            if self._newest is not None:
                self._dropped += 1
            self._newest = frame

    def _notify(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for notify in listeners:
            notify()
