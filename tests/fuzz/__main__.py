"""make fuzz: every target for some seconds, each in a process of its own, which may die or hang."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fuzz.target import CORPUS, OUTCOMES
from fuzz.targets import TARGETS
from fuzz.worker import COUNTS, CURRENT, FAILURE

HANG = 30.0  # seconds with one input
START = 300.0  # seconds until the first one


@dataclass(frozen=True)
class Report:
    """Of one target: how many inputs had each of the OUTCOMES; what is ``wrong``, if anything."""

    counts: dict[str, int]
    wrong: str


def fuzz(name: str, seconds: float, seed: int, folder: Path) -> Report:
    """Try ``name`` in a process of its own."""
    options = ["--seconds", str(seconds), "--seed", str(seed)]
    command = [sys.executable, "-m", "fuzz.worker", name, str(folder), *options]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        hangs = _wait(process, folder / CURRENT)
        log.seek(0)
        lines = log.read().splitlines()
    wrong = ""
    if hangs:
        wrong = f"hangs for {HANG:.0f} s"
    elif process.returncode < 0:
        wrong = f"dies of signal {-process.returncode}"
    elif process.returncode:
        wrong = _cause(lines)
    if wrong:
        wrong += f"; the input: {_keep(name, folder)}"
    return Report(_counts(folder / COUNTS), wrong)


def _wait(process: subprocess.Popen[bytes], current: Path) -> bool:
    """Whether the process had to be killed, because one input took too long."""
    patience = time.time() + START
    while process.poll() is None:
        time.sleep(0.2)
        if current.exists():
            patience = current.stat().st_mtime + HANG
        if time.time() > patience:
            process.kill()
            process.wait()
            return True
    return False


def _cause(lines: list[str]) -> str:
    """The line of a traceback that names the error."""
    for line in reversed(lines):
        if re.match(r"[\w.]*(Error|Exception|Exit|Flaky\w*)\b", line.strip(" |")):
            return line.strip(" |")
    return "\n".join(lines[-3:])


def _keep(name: str, folder: Path) -> Path:
    """Put the input that did harm into the corpus."""
    source = folder / FAILURE
    if not source.exists():
        source = folder / CURRENT
    if not source.exists():
        return folder / "log"
    data = source.read_bytes()
    kept = CORPUS / name / hashlib.sha256(data).hexdigest()[:12]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return kept


def _counts(file: Path) -> dict[str, int]:
    counts = dict.fromkeys(OUTCOMES, 0)
    if file.exists():
        counts.update(json.loads(file.read_text()))
    return counts


def _row(name: str, *cells: str | int) -> str:
    line = f"{name:<12}"
    for cell in cells:
        number = f"{cell:,}" if isinstance(cell, int) else cell
        line += f" {number:>8}"
    return line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", default=list(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    bad = 0
    print(_row("target", "inputs", *OUTCOMES))
    for name in arguments.targets:
        with tempfile.TemporaryDirectory() as folder:
            report = fuzz(name, arguments.seconds, arguments.seed, Path(folder))
        counts = [sum(report.counts.values()), *report.counts.values()]
        print(_row(name, *counts), report.wrong, flush=True)
        bad += bool(report.wrong)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
