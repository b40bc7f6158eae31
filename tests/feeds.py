"""A feed whose pictures a test scripts, and what waits for a source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.live.feed import Picture, Pictures
from vpt_edge.live.frame import ArrayRaster

if TYPE_CHECKING:
    from vpt_edge.live.source import Source

Script = Callable[[], Iterator[Picture]]
PATIENCE = 20.0  # seconds after which a test has failed


def picture(
    level: int = 0, captured: float | None = None, position: float | None = None
) -> Picture:
    raster = ArrayRaster(np.full((4, 6, 3), level, np.uint8))
    moment = time.monotonic()
    if captured is not None:
        moment = captured
    return Picture(raster, moment, position)


class ScriptedFeed:
    """Plays one script each time that it is opened, the last one again and again."""

    undecoded = 0

    def __init__(self, *scripts: Script, name: str = "scripted") -> None:
        self.name = name
        self.scripts = list(scripts)
        self.opens = 0
        self.closes = 0
        self.threads = set[int]()
        self.interrupted = threading.Event()

    def pictures(self) -> Pictures:
        self.threads.add(threading.get_ident())
        self.interrupted.clear()
        script = self.scripts[min(self.opens, len(self.scripts) - 1)]
        self.opens += 1
        try:
            yield from script()
        finally:
            self.threads.add(threading.get_ident())
            self.closes += 1

    def interrupt(self) -> None:
        self.interrupted.set()


def wait_for(source: Source, condition: Callable[[], bool]) -> None:
    """Until ``condition``, which is looked at whenever ``source`` says that something changed."""
    changed = threading.Event()
    source.listen(changed.set)
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{source.state}: {source.problem}"
        changed.wait(0.1)
        changed.clear()
