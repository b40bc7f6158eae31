"""The progress of a command, on a terminal."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from typing import TextIO

from vpt_edge.commands.console import printable
from vpt_edge.commands.interrupt import interrupts

WIDTH = 24  # of the bar, in characters
SETTLED = 5.0  # seconds until an estimate of the time left is worth showing


class Bar:
    """The progress of a command: one line on a terminal, written over and over.

    Nothing where the standard error is not a terminal. The line goes when the block ends.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._began = time.monotonic()

    def __enter__(self) -> Bar:
        self.begin()
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the line away, for another that stays."""
        if self._shown:
            self._write("")

    def begin(self) -> None:
        """Count the time from here."""
        self._began = time.monotonic()

    def show(self, stage: str, done: float, detail: str = "") -> None:
        """``done``: the share of the whole, from 0 to 1. Raises KeyboardInterrupt where a library
        has swallowed one.
        """
        interrupts.check()
        if not self._shown:
            return
        full = round(done * WIDTH)
        elapsed = time.monotonic() - self._began
        line = f"{stage} [{'#' * full}{'-' * (WIDTH - full)}] {done:4.0%} {clock(elapsed)}"
        if done > 0 and elapsed > SETTLED:
            line += f", about {clock(elapsed / done - elapsed)} left"
        if detail:
            line += f"  {detail}"
        line = printable(line).replace("\n", " ").replace("\t", " ")
        self._write(line[: shutil.get_terminal_size().columns - 1])

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone costs no work
            self._stream.write(f"\r{line}\x1b[K")
            self._stream.flush()


def clock(seconds: float) -> str:
    """Minutes and seconds, as 4:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
