"""What stands between a watch and a sink, so that a slow sink never stops a camera."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from vpt_edge.live.frame import Frame
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from vpt_edge.live.sinks.sink import Item, Sink

SIZE = 256  # items
FLUSH = 5.0  # seconds that a sink has for what is left at the end
END = 2.0  # more, for its own end, such as a file's last bytes

log = logging.getLogger("vpt_edge.live")


class SinkQueue:
    """The items for one sink, at most ``size``, and the thread that delivers them.

    ``dropped`` counts what did not get in, ``failed`` what could not be delivered; the first of a
    row of failures is logged, and their number when the sink takes something again.
    """

    def __init__(self, name: str, sink: Sink, size: int = SIZE) -> None:
        self.name = name
        self.dropped = 0
        self.failed = 0
        self._sink = sink
        self._size = size
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._over = False
        self._broken: BrokenPipeError | None = None
        self._failures = 0  # in a row
        self._thread = threading.Thread(target=self._run, name=f"vpt-edge-{name}", daemon=True)
        self._thread.start()

    def put(self, item: Item, wait: bool = False) -> None:
        """Line ``item`` up if the sink wants such.

        Where there is no room, ``wait`` for some, as a file can; otherwise a frame is dropped, and
        for an answer the oldest item. Raises BrokenPipeError where nobody will take anything.
        """
        if not isinstance(item, self._sink.wants):
            return
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._ends() or len(self._items) < self._size)
            if self._broken is not None:
                raise self._broken
            if self._is_refused(item):
                self.dropped += 1
                return
            if len(self._items) >= self._size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    @property
    def lost(self) -> int:
        """Items that do not reach who they are for, for whatever reason."""
        return self.dropped + self.failed + self._sink.dropped

    def _ends(self) -> bool:
        return self._over or self._deadline is not None

    def _is_refused(self, item: Item) -> bool:
        is_full = len(self._items) >= self._size
        return self._ends() or (is_full and isinstance(item, Frame))

    def close(self, seconds: float = FLUSH) -> None:
        """Deliver what is left, for at most so many ``seconds``, and end the sink."""
        deadline = time.monotonic() + seconds
        self.finish(deadline)
        self.join(deadline)

    def finish(self, deadline: float) -> None:
        """Take no more; until the ``deadline`` on the monotonic clock deliver what is left."""
        with self._changed:
            self._deadline = deadline
            self._changed.notify_all()

    def join(self, deadline: float) -> None:
        """Wait until the sink has ended."""
        self._thread.join(max(0.0, deadline + END - time.monotonic()))
        if self._thread.is_alive():
            log.warning("%s: did not come to its end in time", self.name)

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._deliver(item)
        finally:
            with self._changed:
                self._over = True
                self.dropped += len(self._items)
                self._items.clear()
                self._changed.notify_all()
            self._end()

    def _next(self) -> Item | None:
        """The next item; None at the end, or when there is no more time."""
        with self._changed:
            self._changed.wait_for(self._has_work)
            is_late = self._deadline is not None and time.monotonic() >= self._deadline
            if is_late or self._over or not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def _has_work(self) -> bool:
        return bool(self._items) or self._ends()

    def _deliver(self, item: Item) -> None:
        try:
            self._sink.put(item)
        except BrokenPipeError as error:
            with self._changed:
                self._broken = error
                self._over = True
                self._changed.notify_all()
        except (VptError, OSError) as error:
            self.failed += 1
            self._failures += 1
            if self._failures == 1:
                log.warning("%s: %s", self.name, error)
        else:
            if self._failures:
                log.warning("%s: goes on, %d were not delivered", self.name, self._failures)
            self._failures = 0

    def _end(self) -> None:
        try:
            self._sink.close()
        except BrokenPipeError as error:
            self._broken = error
        except (VptError, OSError) as error:
            log.warning("%s: %s", self.name, error)
