"""Fail every system call once, in turn, and look at what is left: ``python -m faults.sweep``, with
the shim loaded (``injector.run_under``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from faults.injector import KILL, Call, Fault, Outcome, run_forked
from faults.real import sweep_real_export
from faults.scenarios import DAMAGED, NEW, NOTHING, Scenario, scenarios

COLUMNS = (
    "points",
    "faults",
    "kills",
    "old whole",
    "new whole",
    "nothing yet",
    "back at the start",
)


class FindingError(AssertionError):
    """What must not be."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="of tests/tags, in fp32")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth fault")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="scenarios with this in the name"
    )
    parser.add_argument(
        "--real", type=int, default=0, metavar="N", help="faults of an export that traces, too"
    )
    options = parser.parse_args()
    problems = 0
    with tempfile.TemporaryDirectory() as work:
        folder = Path(os.path.realpath(work))
        for scenario in scenarios(options.bundle, folder):
            if options.only in scenario.name:
                problems += sweep(scenario, folder, options.every)
        if options.real:
            problems += sweep_real_export(folder / "old", folder, options.real)
    print(f"{problems} problems")
    return int(problems > 0)


def sweep(scenario: Scenario, folder: Path, every: int) -> int:
    """Try the faults of one scenario and print their counts; returns how many went wrong."""
    root = folder / "root"
    _prepare(scenario, root)
    outcome = run_forked(lambda: scenario.work(root), root, Fault(exchange=scenario.exchange))
    if outcome.code != 0:
        raise FindingError(f"{scenario.name} fails without a fault: {outcome.printed}")
    faults = []
    for call in outcome.calls:
        faults += [(call, error) for error in call.faults]
    counts = Counter[str]({"points": len(outcome.calls)})
    problems = 0
    for call, error in faults[::every]:
        try:
            _try(scenario, root, call, error, counts)
        except FindingError as finding:
            problems += 1
            what = "SIGKILL" if error == KILL else os.strerror(error)
            print(f"PROBLEM {scenario.name}: {what} at call {call}: {finding}", flush=True)
    line = ", ".join(f"{counts[column]} {column}" for column in COLUMNS)
    print(f"{scenario.name}: {line}", flush=True)
    return problems


def _prepare(scenario: Scenario, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    scenario.prepare(root)


def _try(scenario: Scenario, root: Path, call: Call, error: int, counts: Counter[str]) -> None:
    """One fault, the next start, and a following run."""
    _prepare(scenario, root)
    fault = Fault(call.number, error, scenario.exchange)
    outcome = run_forked(lambda: scenario.work(root), root, fault)
    counts["kills" if error == KILL else "faults"] += 1
    _check_end(outcome, error)
    state = scenario.state(root)
    if outcome.code == 0 and state != NEW:
        raise FindingError(f"it ended well, and what is there is {state}")
    if state == NOTHING and scenario.first != NOTHING:
        if not scenario.between:
            raise FindingError("what was there is gone")
        counts["back at the start" if _start(scenario, root) else "nothing yet"] += 1
    else:
        counts["nothing yet" if state == NOTHING else f"{state} whole"] += 1
    if state not in (NOTHING, scenario.first, NEW):
        raise FindingError(f"what is there is {state}")
    _follow(scenario, root)


def _check_end(outcome: Outcome, error: int) -> None:
    if error == KILL:
        expected = outcome.code in (-9, 0)
    else:
        expected = outcome.code in (0, 2)
    if not expected or "Traceback" in outcome.printed:
        raise FindingError(f"it ends with {outcome.code}: {outcome.printed}")


def _start(scenario: Scenario, root: Path) -> bool:
    """Whether the next start of the same work puts back what was there, even if it then fails."""
    start = scenario.start
    if start is None:
        return False
    run_forked(lambda: start(root), root, Fault(exchange=scenario.exchange))
    state = scenario.state(root)
    if state in (NOTHING, DAMAGED):
        raise FindingError(f"after the next start it is {state}")
    return True


def _follow(scenario: Scenario, root: Path) -> None:
    outcome = run_forked(lambda: scenario.work(root), root, Fault(exchange=scenario.exchange))
    state = scenario.state(root)
    if scenario.name == "answer" and outcome.code == 2 and state == NEW:
        outcome = Outcome(0, "", ())  # it stands there already, and is not replaced
    if outcome.code != 0 or state != NEW:
        raise FindingError(
            f"the following run ends with {outcome.code}, {state}: {outcome.printed}"
        )
    names = {path.name for path in root.iterdir()}
    if not names <= scenario.names:
        raise FindingError(f"the following run leaves {names - scenario.names}")


if __name__ == "__main__":
    sys.exit(main())
