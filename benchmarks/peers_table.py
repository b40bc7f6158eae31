"""The times of `make bench-peers` as Markdown: medians with quartiles, ratios within a round, and
floors.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from benchmarks import bare_machine, question
from benchmarks.bare_machine import MULTIPLYING, READING
from benchmarks.question import LOOKS
from benchmarks.shape import STEPS

READINGS = [f"{READING}, {way}" for way in ("dot", "or")]
PREFILL = next(what for what, (_, cached) in STEPS.items() if not cached)
Times: TypeAlias = dict[str, dict[str, list[float]]]


@dataclass
class Table:
    """All times by sitting, contender and what was done, and how they are told."""

    sittings: list[Times] = field(default_factory=list)
    touched: dict[tuple[str, str], int] = field(default_factory=dict)  # bytes that a step must read
    products: dict[str, int] = field(
        default_factory=dict
    )  # weights that a prefill multiplies in int8
    errors: dict[str, str] = field(default_factory=dict)

    def all_of(self, name: str, what: str) -> list[float]:
        return [taken for times in self.sittings for taken in times.get(name, {}).get(what, ())]

    def markdown(self) -> str:
        lines = list[str]()
        if rates := [rate / 1e12 for times in self.sittings for rate in _multiplying(times)]:
            read = [rate / 1e9 for times in self.sittings for rate in _reading(times)]
            lines.append(
                f"Reading: {spread(read, 1)} GB/s; int8 products: {spread(rates, 2)} Tops/s."
            )
        for what in (*STEPS, *(look.question for look in LOOKS)):
            lines += self._times(what)
        lines += self._looks()
        lines.append("")
        lines += [f"Not there: {name}: {why}" for name, why in self.errors.items()]
        return "\n".join(lines)

    def _times(self, what: str) -> list[str]:
        """The table of one thing that was timed, a contender a row; nothing if none was."""
        names = dict[str, None]()
        for times in self.sittings:
            names |= {name: None for name, taken in times.items() if what in taken}
        if not names:
            return []
        header = "ms | tokens/s | times int4's | times int8's | floor, ms | of the floor"
        lines = ["", f"| {what} | {header} |", "|---|---:|---:|---:|---:|---:|---:|"]
        for name in names:
            lines.append(f"| {' | '.join([name, *self._row(name, what)])} |")
        return lines

    def _row(self, name: str, what: str) -> list[str]:
        tokens, _ = STEPS.get(what, (0, 0))
        taken = self.all_of(name, what)
        floors = self._floors(name, what)
        rate = f"{tokens / float(np.median(taken)):.1f}" if tokens else ""
        cells = [spread([1000 * each for each in taken], 1), rate]
        cells += [self._ratio(name, f"ours {ours}", what) for ours in ("int4", "int8")]
        if not floors:
            return [*cells, "", ""]
        shares = [100 * floor / each for floor, each in zip(floors, taken, strict=False)]
        return [*cells, f"{1000 * np.median(floors):.1f}", spread(shares, 0)]

    def _floors(self, name: str, what: str) -> list[float]:
        """Seconds that the machine itself would need in each round: for reading, or for the
        products of a prefill.
        """
        sittings = [times for times in self.sittings if what in times.get(name, {})]
        if (name, what) in self.touched:
            return [
                self.touched[name, what] / rate for times in sittings for rate in _reading(times)
            ]
        operations = 2 * STEPS[PREFILL][0] * self.products.get(name, 0)
        if what != PREFILL or not operations:
            return []
        return [operations / rate for times in sittings for rate in _multiplying(times)]

    def _looks(self) -> list[str]:
        """What a look costs, beside a run of our own from scratch in the same round."""
        lines = [
            "",
            "| | the look, ms | from scratch, ms | the look, % of it |",
            "|---|---:|---:|---:|",
        ]
        names = {name: None for times in self.sittings for name in times}
        for look, name in itertools.product(LOOKS, names):
            waits = self.all_of(name, look.wait)
            whole = self.all_of(name, look.scratch)
            if waits:
                shares = [100 * wait / taken for wait, taken in zip(waits, whole, strict=True)]
                wait = spread([1000 * each for each in waits], 0)
                scratch = spread([1000 * each for each in whole], 0)
                lines.append(f"| {name}, {look.kind} | {wait} | {scratch} | {spread(shares, 1)} |")
        if len(lines) == 3:
            return []
        return [*lines, "", question.NOTE]

    def _ratio(self, name: str, ours: str, what: str) -> str:
        """Of the times within each round of the sittings in which both are."""
        ratios = list[float]()
        for times in self.sittings:
            own = times.get(name, {}).get(what, [])
            base = times.get(ours, {}).get(what, [])
            if own and base:
                ratios += [one / other for one, other in zip(own, base, strict=True)]
        if name == ours or not ratios:
            return ""
        return spread(ratios, 2)


def _reading(times: Times) -> list[float]:
    """Bytes a second in each round of a sitting, the better way of reading."""
    ways = [times.get("the machine", {}).get(way, []) for way in READINGS]
    return [bare_machine.READ / min(taken) for taken in zip(*ways, strict=True)]


def _multiplying(times: Times) -> list[float]:
    """int8 operations a second in each round of a sitting."""
    operations = 2 * bare_machine.WEIGHTS * math.prod(bare_machine.PRODUCT)
    return [operations / taken for taken in times.get("the machine", {}).get(MULTIPLYING, ())]


def spread(values: list[float], digits: int) -> str:
    """Median and quartiles."""
    low, middle, high = (f"{value:.{digits}f}" for value in np.percentile(values, (25, 50, 75)))
    return f"{middle} ({low} to {high})"
