"""How much of everything: stages, their steps, and what they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

from signs.sizes import SIGNS, Geometry


@dataclass(frozen=True)
class Stage:
    """``steps`` of ``batch`` examples, with ``rate`` at most, which is reached after ``warm`` of
    them; beside each batch of first views so many ``crops`` of the same scenes, and ``windows``.
    """

    name: str
    steps: int
    batch: int
    rate: float
    warm: int = 200
    crops: int = 0
    windows: int = 0


@dataclass(frozen=True)
class Recipe:
    """``windows`` and ``scenes``: how many are drawn, in chunks of ``chunk`` or a quarter of that;
    ``grown``: the share of a stage in which the drawn ones come into use.

    ``every``: steps from one line of the log to the next; ``kept``: seconds from one state on the
    disk to the next.
    """

    geometry: Geometry = SIGNS
    stages: tuple[Stage, ...] = (
        Stage("letters", 10000, 64, 1.5e-3, warm=400),
        Stage("see", 5000, 18, 8e-4, crops=4, windows=54),
        Stage("read", 3400, 8, 5e-4, warm=100, crops=8, windows=96),
        Stage("speak", 2200, 32, 1e-3),
    )
    chunk: int = 512
    windows: int = 80 * 512
    scenes: int = 160 * 128
    grown: float = 0.4
    seed: int = 0
    every: int = 100
    kept: float = 120.0


FULL = Recipe()
