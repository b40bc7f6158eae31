"""What pytest reports of another machine is right only when tests ran there and none failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from outcomes import Outcome, read_outcome

PASSES = "def test_one():\n    pass\n"
FAILS = "def test_two():\n    assert False\n"
SKIPS = "import pytest\ndef test_three():\n    pytest.skip('not here')\n"
BREAKS = "import pytest\n@pytest.fixture\ndef bad():\n    1 / 0\ndef test_four(bad):\n    pass\n"
DIES = "import os\ndef test_five():\n    os._exit(0)\n"


def run(folder: Path, source: str, may_skip: bool = False) -> Outcome:
    (folder / "test_it.py").write_text(source)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    command += ["-c", "/dev/null", f"--junitxml={report}", "test_it.py"]
    code = subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode
    return read_outcome("tests", report, 1.0, code, may_skip)


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        (PASSES, (1, 0, 0)),
        (PASSES + FAILS, (1, 1, 0)),
        (PASSES + BREAKS, (1, 1, 0)),
        (PASSES + SKIPS, (1, 0, 1)),
        (DIES, (0, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_only_what_passed_is_right(
    source: str, counts: tuple[int, int, int], tmp_path: Path
) -> None:
    outcome = run(tmp_path, source)
    assert (outcome.passed, outcome.failed, outcome.skipped) == counts
    assert outcome.is_right == (source == PASSES)


def test_a_skip_may_be_allowed(tmp_path: Path) -> None:
    assert run(tmp_path, PASSES + SKIPS, may_skip=True).is_right
