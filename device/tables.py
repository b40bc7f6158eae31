"""The figures of a benchmark, and how they are shown: a table, a Markdown table, JSON."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vpt_edge.device.drafts import Drafts

TITLES = {
    "start_up": "start-up",
    "first_token": "time to first token",
    "decode": "decode",
    "vision_encode": "vision encode (mean of picture and look)",
    "look": "look latency",
    "answer": "whole answer",
}
REST = "host work (the rest)"
NONE = "-"


@dataclass(frozen=True)
class Figure:
    """A measure over ``count`` runs, in ``unit``: "s" or "tokens/s".

    95 % of the runs are as good as ``p95`` or better, of a rate too; a single run has none.
    """

    unit: str
    p50: float
    p95: float | None
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float | None], rate: bool = False) -> Figure | None:
        """Of each run's seconds, or as a ``rate`` of its seconds a token; None where no run has
        any.
        """
        known = [value for value in seconds if value is not None]
        if not known:
            return None
        values = np.percentile(known, (50, 95))
        if rate:
            values = 1 / values
        p50, p95 = (float(value) for value in values)
        unit = "tokens/s" if rate else "s"
        return cls(unit, p50, p95 if len(known) > 1 else None, len(known))

    def shown(self) -> tuple[str, str]:
        """p50 and p95 with their units."""
        if self.p95 is None:
            return self._shown(self.p50), NONE
        return self._shown(self.p50), self._shown(self.p95)

    def _shown(self, value: float) -> str:
        if self.unit != "s":
            return f"{value:.1f} {self.unit}"
        if value < 1:
            return f"{value * 1000:.1f} ms"
        return f"{value:.2f} s"


class Section(NamedTuple):
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Report:
    """All that vpt-bench found.

    ``figures`` by the names of TITLES, None for what did not happen; ``shares``: of each stage and
    of the ``host``'s work, in the time of whole answers; ``peak_memory``: resident bytes of the
    process at most; ``device_memory``: bytes in use on the GPU, by all programs; ``joules``: of one
    answer, by power rail; ``watts``: their mean; ``drafts``: what they save, where it was asked.
    """

    bundle: dict[str, str]
    request: dict[str, Any]
    tokens: dict[str, Any]
    runs: int
    warm_up: int
    figures: dict[str, Figure | None]
    shares: dict[str, float]
    peak_memory: int | None
    device_memory: int | None
    joules: dict[str, float]
    watts: dict[str, float]
    machine: dict[str, str]
    versions: dict[str, str]
    drafts: Drafts | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """Tables for a terminal."""
        tables = [_plain(section) for section in self._sections()]
        return f"{self._title()}\n\n" + "\n".join(tables)

    def markdown(self) -> str:
        """Markdown tables."""
        tables = [_markdown(section) for section in self._sections()]
        return f"{_escaped(self._title())}\n\n" + "\n".join(tables)

    def _title(self) -> str:
        bundle = "{path} ({kind}, {precision}, for {target})".format(**self.bundle)
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        return f"{bundle}, {runs} after {self.warm_up} to warm up"

    def _sections(self) -> Iterator[Section]:
        rows = list[tuple[str, ...]]()
        for name, figure in self.figures.items():
            p50, p95 = figure.shown() if figure else (NONE, NONE)
            rows.append((TITLES[name], p50, p95))
        yield Section(("", "p50", "p95"), rows)
        shares = list[tuple[str, ...]]()
        for name, share in self.shares.items():
            if share:
                shares.append((REST if name == "host" else name, f"{share:.1%}"))
        yield Section(("share of the answer", ""), shares)
        yield Section(("cost", ""), list(self._costs()))
        yield Section(("asked", ""), list(self._asked()))
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        yield Section(("machine", ""), [*self.machine.items(), ("versions", versions)])

    def _costs(self) -> Iterator[tuple[str, ...]]:
        yield "peak memory", _size(self.peak_memory)
        if self.device_memory is not None:
            yield "device memory in use", f"{_size(self.device_memory)}, all programs"
        if self.drafts is not None:
            yield f"drafts of {self.drafts.most}", self.drafts.describe()
        for rail, joules in self.joules.items():
            yield f"energy, {rail}", f"{joules:.2f} J an answer, {self.watts[rail]:.2f} W"

    def _asked(self) -> Iterator[tuple[str, ...]]:
        request = self.request
        tokens = self.tokens
        for name in ("picture", "question", "look"):
            yield name, " ".join(request[name].split())
        looks = f", {tokens['look']} of the look" if tokens["look"] else ""
        yield "prompt", f"{tokens['prompt']} tokens, {tokens['picture']} of the picture{looks}"
        turns = " + ".join(str(count) for count in tokens["generated"])
        limit = f"at most {request['max_new_tokens']} a turn"
        yield "generated", f"{turns} tokens, {limit} ({request['finish_reason']})"


def _size(size: int | None) -> str:
    if size is None:
        return "unknown"
    return f"{size / (1 << 20):.1f} MiB"


def _plain(section: Section) -> str:
    """Numbers in columns flush right, texts flush left."""
    lines = [section.head, *section.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ""
    for first, *others in lines:
        cells = [first.ljust(widths[0])]
        for cell, width in zip(others, widths[1:], strict=True):
            cells.append(cell.rjust(width) if _is_numeric(section) else cell.ljust(width))
        text += "  ".join(cells).rstrip() + "\n"
    return text


def _markdown(section: Section) -> str:
    alignment = "--:" if _is_numeric(section) else "---"
    rule = ["---", *[alignment for _ in section.head[1:]]]
    lines = [section.head, rule, *section.rows]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def _is_numeric(section: Section) -> bool:
    """Whether all columns but the first are of numbers."""
    return len(section.head) > 2


def _escaped(text: str) -> str:
    """What a person or a board gave must not end a cell or begin a tag."""
    return re.sub(r"([\\|<`*_])", r"\\\1", text)
