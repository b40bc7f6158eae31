"""The wheel, built from the tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from golden import ROOT

PACKAGES = [
    *("runtime", "live", "server", "device", "engines", "calibration", "tuning", "export"),
    "commands",
]


def build_wheel(work: Path, target: Path) -> Path:
    """Puts the wheel into ``target``; built from a copy in ``work``: setuptools would take up what
    an older build left in the tree.
    """
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, work / name)
    for name in (*PACKAGES, "optimum"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--disable-pip-version-check", "--quiet"]
    command += ["--wheel-dir", str(target), str(work)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (file,) = target.glob("vpt_edge-*.whl")
    return file
