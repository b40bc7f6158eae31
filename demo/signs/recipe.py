"""How much of everything: stages, their steps, and what they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

from signs.sizes import SIGNS, Geometry


@dataclass(frozen=True)
class Stage:
    """``steps`` of ``batch`` examples, with ``rate`` at most, which is reached after ``warm`` of
    them.
    """

    name: str
    steps: int
    batch: int
    rate: float
    warm: int = 200


@dataclass(frozen=True)
class Recipe:
    """``windows`` and ``scenes``: how many are drawn, in chunks of ``chunk`` or a quarter of that;
    ``grown``: the share of a stage in which the drawn ones come into use.

    ``every``: steps from one line of the log to the next; ``kept``: seconds from one state on the
    disk to the next.
    """

    geometry: Geometry = SIGNS
    stages: tuple[Stage, ...] = (
        Stage("letters", 16000, 64, 1.5e-3, warm=400),
        Stage("see", 4000, 18, 6e-4),
        Stage("speak", 4000, 32, 1e-3),
        Stage("together", 1000, 12, 3e-4),
    )
    chunk: int = 512
    windows: int = 80 * 512
    scenes: int = 96 * 128
    grown: float = 0.4
    seed: int = 0
    every: int = 100
    kept: float = 120.0


FULL = Recipe()
