"""What pytest did on another machine, and a table of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Outcome:
    """Of one run of pytest, by its JUnit report and its exit code."""

    title: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    code: int
    may_skip: bool = False

    @property
    def is_right(self) -> bool:
        if self.code or self.failed or not self.passed:
            return False
        return self.may_skip or not self.skipped


def read_outcome(
    title: str, report: Path, seconds: float, code: int, may_skip: bool = False
) -> Outcome:
    """``report`` is missing where pytest did not come to its end."""
    if not report.exists():
        return Outcome(title, 0, 0, 0, seconds, code or 1, may_skip)
    suite = ElementTree.parse(report).getroot()[0]
    numbers = {name: int(value) for name, value in suite.attrib.items() if value.isdecimal()}
    failed = numbers["errors"] + numbers["failures"]
    passed = numbers["tests"] - failed - numbers["skipped"]
    return Outcome(title, passed, failed, numbers["skipped"], seconds, code, may_skip)


def print_table(place: str, outcomes: Sequence[Outcome]) -> None:
    print(f"\n{place:<40}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for outcome in outcomes:
        counts = f"{outcome.passed:>8,}{outcome.failed:>8,}{outcome.skipped:>9,}"
        verdict = "" if outcome.is_right else "  failed"
        print(f"{outcome.title:<40}{counts}{outcome.seconds:>9,.0f}{verdict}")
