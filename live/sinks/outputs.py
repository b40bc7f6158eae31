"""All sinks of a watch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vpt_edge.live.frame import Frame
from vpt_edge.live.sinks.queue import FLUSH, SIZE, SinkQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.live.sinks.sink import Item, Sink

FRAMES = 16  # that wait for a sink at most: of 4K they are 400 MB


class Outputs:
    """Gives every item to each of ``sinks``, by their names, all of them behind a queue."""

    def __init__(self, sinks: Sequence[tuple[str, Sink]]) -> None:
        self._queues = []
        self.wants_frames = False
        for name, sink in sinks:
            takes_frames = Frame in sink.wants
            size = FRAMES if takes_frames else SIZE
            self._queues.append(SinkQueue(name, sink, size))
            self.wants_frames = self.wants_frames or takes_frames

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def put(self, item: Item, wait: bool = False) -> None:
        """Line ``item`` up for each sink that wants such; ``wait`` for room where there is none.

        Raises BrokenPipeError where nobody reads the output any more.
        """
        for queue in self._queues:
            queue.put(item, wait)

    def close(self, seconds: float = FLUSH) -> None:
        """Deliver what is left, for at most so many ``seconds``, and end the sinks."""
        deadline = time.monotonic() + seconds
        for queue in self._queues:
            queue.finish(deadline)
        for queue in self._queues:
            queue.join(deadline)

    @property
    def losses(self) -> dict[str, int]:
        """Items that did not reach a sink, by its name; none of a sink that got all."""
        losses = {}
        for queue in self._queues:
            if queue.lost:
                losses[queue.name] = queue.lost
        return losses
