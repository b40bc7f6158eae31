"""One target for some seconds, in a process of its own: python -m fuzz.worker NAME ..."""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase

from fuzz.target import Target, attempt, corpus
from fuzz.targets import TARGETS

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
    taken: int = 0
    refused: int = 0
    failures: list[bytes] = field(default_factory=list)

    def check(self, data: bytes) -> None:
        """Raises what is not a refusal."""
        (self.folder / CURRENT).write_bytes(data)
        if time.monotonic() > self.end and not self.failures:
            return  # the rest of a round
        try:
            refusal = attempt(self.target, data)
        except BaseException:
            self.failures.append(data)
            (self.folder / FAILURE).write_bytes(data)  # the last one is the smallest
            raise
        if refusal is None:
            self.taken += 1
        else:
            self.refused += 1

    def run(self, seed: int) -> None:
        """Rounds of damaged inputs until the time is over."""
        settings = hypothesis.settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        inputs = self.target.inputs()
        while time.monotonic() < self.end:
            test = hypothesis.given(inputs)(self.check)
            settings(hypothesis.seed(seed)(test))()
            seed += 1
            (self.folder / COUNTS).write_text(f"{self.taken} {self.refused}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    worker = Worker(TARGETS[arguments.name], arguments.folder, time.monotonic() + arguments.seconds)
    for file in corpus(arguments.name):
        worker.check(file.read_bytes())
    worker.run(arguments.seed)


if __name__ == "__main__":
    main()
