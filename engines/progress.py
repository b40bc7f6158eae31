"""How far a build is: the builder's nested phases as one fraction."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """The phases that run, by name; several may run at once.

    ``fraction`` never falls, whatever the phases do. ``watch`` is called with the phase and the
    fraction after every change, from any thread.
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
        self.fraction = max([self.fraction, *roots])
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
