"""How far a build is: the builder's nested phases as one fraction, and the line that shows it."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 24  # of the bar, in characters
SETTLED = 5.0  # seconds until an estimate of the time left is worth showing


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """The phases that run, by name; several may run at once. ``fraction`` never falls, whatever the
    phases do.

    ``watch`` is called with the phase and the fraction after every change, from any thread.
    """

    def __init__(self, watch: Callable[[str, float], None]) -> None:
        self.fraction = 0.0
        self._watch = watch
        self._running = dict[str, _Phase]()
        self._lock = threading.RLock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._running[name] = _Phase(parent, max(steps, 1))
            self._advance(name)

    def step(self, name: str) -> None:
        with self._lock:
            if name in self._running:
                self._running[name].done += 1
                self._advance(name)

    def finish(self, name: str) -> None:
        with self._lock:
            self._running.pop(name, None)

    def _advance(self, name: str) -> None:
        roots = [
            self._share(root)
            for root, phase in self._running.items()
            if phase.parent not in self._running
        ]
        self.fraction = max(self.fraction, *roots) if roots else self.fraction
        self._watch(name, self.fraction)

    def _share(self, name: str) -> float:
        """What is done of a phase; a phase inside it counts as one of its steps."""
        phase = self._running[name]
        inner = [
            self._share(child)
            for child, other in self._running.items()
            if other.parent == name != child
        ]
        return min((phase.done + max(inner, default=0.0)) / phase.steps, 1.0)


class Bar:
    """One line on a terminal, written over and over; nothing where there is no terminal, or with
    ``quiet``."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = not quiet and self._stream.isatty()
        self._began = time.monotonic()

    def begin(self) -> None:
        """Count the time from here."""
        self._began = time.monotonic()

    def show(self, title: str, stage: str, fraction: float) -> None:
        if not self._shown:
            return
        full, elapsed = round(fraction * WIDTH), time.monotonic() - self._began
        line = f"{title} [{'#' * full}{'-' * (WIDTH - full)}] {fraction:4.0%} {clock(elapsed)}"
        if fraction > 0 and elapsed > SETTLED:
            line += f", about {clock(elapsed / fraction - elapsed)} left"
        line = f"{line}  {stage}"[: shutil.get_terminal_size().columns - 1]
        self._stream.write(f"\r{line}\x1b[K")
        self._stream.flush()

    def clear(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def clock(seconds: float) -> str:
    """Minutes and seconds, as 4:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
