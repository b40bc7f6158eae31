"""One target for some seconds, in a process of its own: python -m fuzz.worker NAME ..."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
from hypothesis import HealthCheck, Phase

from fuzz.target import Target, attempt, corpus
from fuzz.targets import TARGETS

if TYPE_CHECKING:
    from hypothesis import strategies as st

ROUND = 100  # inputs; the next round's seed is one higher
MEMORY = 12 << 30  # bytes of addresses: what asks for more is a fault, too
CURRENT = "current"  # what is tried; what is left when a process dies
FAILURE = "failure"
COUNTS = "counts"


@dataclass
class Worker:
    """``folder`` is where the parent finds what was tried last, and how much."""

    target: Target
    folder: Path
    end: float
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[bytes] = field(default_factory=list)

    def check(self, data: bytes) -> None:
        """Raises what is not a refusal."""
        (self.folder / CURRENT).write_bytes(data)
        if time.monotonic() > self.end and not self.failures:
            return  # the rest of a round
        try:
            outcome = attempt(self.target, data)
        except BaseException:
            self.failures.append(data)
            (self.folder / FAILURE).write_bytes(data)  # the last one is the smallest
            raise
        self.counts[outcome] += 1

    def run(self, inputs: st.SearchStrategy[bytes], seed: int) -> None:
        """Rounds of damaged ``inputs`` until the time is over."""
        settings = hypothesis.settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        while time.monotonic() < self.end:
            test = hypothesis.given(inputs)(self.check)
            settings(hypothesis.seed(seed)(test))()
            seed += 1
            (self.folder / COUNTS).write_text(json.dumps(self.counts))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    target = TARGETS[arguments.name]
    inputs = target.inputs()  # which may take its time
    worker = Worker(target, arguments.folder, time.monotonic() + arguments.seconds)
    for file in corpus(arguments.name):
        worker.check(file.read_bytes())
    worker.run(inputs, arguments.seed)


if __name__ == "__main__":
    main()
