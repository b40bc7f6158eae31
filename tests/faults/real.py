"""A handful of faults in vpt-export as it is, graphs traced and all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from golden import TAGS

from faults.injector import KILL
from faults.scenarios import NEW, OLD, bundle_state

ERRORS = (28, KILL, 5)  # a full disk, SIGKILL, a broken one


def sweep_real_export(old: Path, folder: Path, count: int) -> int:
    """Try ``count`` faults, spread over the export, and print what was left; returns how many went
    wrong.
    """
    root = folder / "real"
    journal = folder / "journal"
    _prepare(old, root)
    if _export(root, journal, 0, KILL) != 0:
        raise AssertionError("vpt-export fails without a fault")
    calls = journal.read_text(errors="replace").splitlines()
    states = []
    problems = 0
    for index in range(count):
        call = len(calls) * (2 * index + 1) // (2 * count)
        _prepare(old, root)
        code = _export(root, journal, call, ERRORS[index % len(ERRORS)])
        state = bundle_state(root)
        states.append(state)
        follows = _export(root, journal, 0, KILL) == 0 and bundle_state(root) == NEW
        is_clean = [path.name for path in root.iterdir()] == ["bundle"]
        if code not in (0, 2, -9) or state not in (OLD, NEW) or not follows or not is_clean:
            problems += 1
            print(f"PROBLEM real export: {calls[call - 1]}: ends with {code}, {state}", flush=True)
    print(
        f"real export: {len(calls)} points, {count} faults, {states.count(OLD)} old whole, "
        f"{states.count(NEW)} new whole",
        flush=True,
    )
    return problems


def _prepare(old: Path, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(old, root / "bundle")


def _export(root: Path, journal: Path, call: int, error: int) -> int:
    fault = {
        "FAULT_ROOT": str(root),
        "FAULT_CALL": str(call),
        "FAULT_ERROR": str(error),
        "FAULT_JOURNAL": str(journal),
    }
    arguments = [str(TAGS), "-o", str(root / "bundle"), "--precision", "fp32"]
    return subprocess.run(
        [sys.executable, "-m", "vpt_edge.commands.export", *arguments],
        env={**os.environ, **fault},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode
