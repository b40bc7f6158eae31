"""What a request costs in time, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("preprocess", "vision", "reencode", "prefill", "decode")


class Stopwatch:
    """``seconds`` and ``runs`` by stage, and ``first_token_seconds``, the wait of each turn."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.runs = dict.fromkeys(STAGES, 0)
        self.first_token_seconds: list[float] = []
        self._last = 0.0  # when the request began, or its last token came

    def begin(self) -> None:
        """The wait for the first token begins."""
        self._last = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of its block to the stage ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start
            self.runs[name] += 1

    def token_arrived(self, turn: int) -> None:
        """A turn's first token ends the wait for it; its last begins the wait for the next turn."""
        now = time.perf_counter()
        if len(self.first_token_seconds) == turn:
            self.first_token_seconds.append(now - self._last)
        self._last = now
