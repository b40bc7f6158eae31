"""The phases of a build as one fraction."""

from __future__ import annotations

import pytest

from vpt_edge.engines.progress import Phases


def test_nested_phases_make_one_fraction() -> None:
    seen: list[float] = []
    phases = Phases(lambda name, fraction: seen.append(fraction))
    phases.start("all", None, 4)
    phases.step("all")
    phases.start("inner", "all", 2)
    phases.step("inner")
    assert seen[-1] == pytest.approx(0.25 + 0.25 / 2)
    phases.finish("inner")
    phases.start("inner", "all", 2)  # again within the same step
    assert seen[-1] == pytest.approx(0.25 + 0.25 / 2)
    phases.step("inner")
    phases.step("inner")
    phases.step("unknown")
    assert seen[-1] == pytest.approx(0.5)
    phases.finish("inner")
    for _ in range(9):
        phases.step("all")
    assert seen[-1] == 1 and seen == sorted(seen)
