"""The openai package from npm, installed once into build/."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from golden import ROOT

PACKAGE = "openai@6.49.0"
FOLDER = ROOT / "build" / "js-clients"


def install_package() -> Path:
    """The folder of modules that npm has installed; skips the test where it cannot."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are missing: apt-get install nodejs npm")
    done = FOLDER / f"{PACKAGE}.installed"
    if not done.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        options = ["--no-audit", "--no-fund", "--fetch-retries=0", f"--prefix={FOLDER}"]
        command = ["npm", "install", *options, PACKAGE]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"npm did not install {PACKAGE}: {result.stderr[-200:]}")
        done.touch()
    return FOLDER / "node_modules"
