"""The figures of a benchmark, and how they are shown: a table, a Markdown table, JSON."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

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
        any."""
        known = [value for value in seconds if value is not None]
        if not known:
            return None
        p50, p95 = (float(1 / value if rate else value) for value in np.percentile(known, (50, 95)))
        return cls("tokens/s" if rate else "s", p50, p95 if len(known) > 1 else None, len(known))

    def shown(self) -> tuple[str, str]:
        return self._shown(self.p50), NONE if self.p95 is None else self._shown(self.p95)

    def _shown(self, value: float) -> str:
        if self.unit != "s":
            return f"{value:.1f} {self.unit}"
        return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


class Section(NamedTuple):
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Report:
    """All that vpt-bench found.

    ``figures`` by the names of TITLES, None for what did not happen; ``shares``: of each stage and
    of the ``host``'s work, in the time of whole answers; ``peak_memory``: resident bytes of the
    process at most; ``device_memory``: bytes in use on the GPU, by all programs; ``joules``: of one
    answer, by power rail; ``watts``: their mean."""

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

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """Tables for a terminal."""
        return f"{self._title()}\n\n" + "\n".join(_plain(section) for section in self._sections())

    def markdown(self) -> str:
        """Markdown tables."""
        return f"{_escaped(self._title())}\n\n" + "\n".join(
            _markdown(section) for section in self._sections()
        )

    def _title(self) -> str:
        bundle = "{path} ({kind}, {precision}, for {target})".format(**self.bundle)
        runs = f"{self.runs} {'run' if self.runs == 1 else 'runs'} after {self.warm_up} to warm up"
        return f"{bundle}, {runs}"

    def _sections(self) -> Iterator[Section]:
        rows: list[tuple[str, ...]] = [
            (TITLES[name], *(figure.shown() if figure else (NONE, NONE)))
            for name, figure in self.figures.items()
        ]
        yield Section(("", "p50", "p95"), rows)
        yield Section(
            ("share of the answer", ""),
            [
                (REST if name == "host" else name, f"{share:.1%}")
                for name, share in self.shares.items()
                if share
            ],
        )
        yield Section(("cost", ""), list(self._costs()))
        yield Section(("asked", ""), list(self._asked()))
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        yield Section(("machine", ""), [*self.machine.items(), ("versions", versions)])

    def _costs(self) -> Iterator[tuple[str, ...]]:
        yield "peak memory", _size(self.peak_memory)
        if self.device_memory is not None:
            yield "device memory in use", f"{_size(self.device_memory)}, all programs"
        for rail, joules in self.joules.items():
            yield f"energy, {rail}", f"{joules:.2f} J an answer, {self.watts[rail]:.2f} W"

    def _asked(self) -> Iterator[tuple[str, ...]]:
        request, tokens = self.request, self.tokens
        for name in ("picture", "question", "look"):
            yield name, " ".join(request[name].split())
        looks = f", {tokens['look']} of the look" if tokens["look"] else ""
        yield "prompt", f"{tokens['prompt']} tokens, {tokens['picture']} of the picture{looks}"
        turns = " + ".join(str(count) for count in tokens["generated"])
        yield (
            "generated",
            f"{turns} tokens, at most {request['max_new_tokens']} a turn ({request['finish_reason']})",
        )


def _size(size: int | None) -> str:
    return "unknown" if size is None else f"{size / (1 << 20):.1f} MiB"


def _plain(section: Section) -> str:
    """Numbers in columns flush right, texts flush left."""
    lines, numbers = [section.head, *section.rows], len(section.head) > 2
    widths = [max(len(line[column]) for line in lines) for column in range(len(section.head))]
    cells = [
        [
            f"{cell:{'>' if numbers and column else '<'}{widths[column]}}"
            for column, cell in enumerate(line)
        ]
        for line in lines
    ]
    return "".join("  ".join(line).rstrip() + "\n" for line in cells)


def _markdown(section: Section) -> str:
    rule = ["---", *(["--:" if len(section.head) > 2 else "---"] * (len(section.head) - 1))]
    lines = [section.head, rule, *section.rows]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def _escaped(text: str) -> str:
    """What a person or a board gave must not end a cell or begin a tag."""
    return re.sub(r"([\\|<`*_])", r"\\\1", text)
