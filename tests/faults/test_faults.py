"""A small part of ``make faults``: after any failing system call the old or the new one is whole,
and the next run works.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from golden import ROOT, TAGS, Exporter

from faults.injector import compile_shim

EVERY = 37  # of the faults: all parts of each scenario are met

CARELESS = """
from pathlib import Path
from faults.scenarios import NEW, OLD, Scenario
from faults.sweep import sweep

def state(root):
    return {"old" * 9: OLD, "new" * 9: NEW}.get((root / "file").read_text(), "damaged")

def write(root, text):
    (root / "file").write_text(text)

careless = Scenario(
    "careless", lambda root: write(root, "old" * 9), lambda root: write(root, "new" * 9), state,
    {"file"},
)
print(sweep(careless, Path(FOLDER), 1), "problems")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return compile_shim(tmp_path_factory.mktemp("shim"))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no compiler here: {error}")


def run(shim: Path, *arguments: str) -> tuple[int, str]:
    paths = [str(ROOT / "tests"), str(ROOT / "demo"), str(ROOT)]
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the shim is for Linux")
def test_after_any_fault_one_is_whole_and_the_next_run_works(
    shim: Path, exported: Exporter
) -> None:
    bundle = str(exported(TAGS).path)
    code, printed = run(shim, "-m", "faults.sweep", bundle, "--every", str(EVERY))
    assert (code, printed.splitlines()[-1]) == (0, "0 problems"), printed
    faults = re.findall(r"(\d+) faults, (\d+) kills, (\d+) old whole, (\d+) new whole", printed)
    assert len(faults) == 8
    tried = [sum(map(int, column)) for column in zip(*faults, strict=True)]
    assert all(count > 5 for count in tried), printed


@pytest.mark.skipif(sys.platform != "linux", reason="the shim is for Linux")
def test_a_careless_writer_is_found(shim: Path, tmp_path: Path) -> None:
    code, printed = run(shim, "-c", CARELESS.replace("FOLDER", repr(str(tmp_path.resolve()))))
    assert code == 0, printed
    assert "PROBLEM careless: SIGKILL at call" in printed
    assert printed.endswith("\n1 problems\n")
