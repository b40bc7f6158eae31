"""What is said where an extra is missing can be done, although there is no release yet."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

from golden import ROOT

from benchmarks import density

EXTRAS = set(metadata("vpt-edge").get_all("Provides-Extra") or ())
EXTRA = re.compile(r"pip install '([\w.-]+)\[([\w,{}]+)\]'")
PRODUCT = sorted(path for package in density.PRODUCT for path in (ROOT / package).rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = {"onnxruntime-gpu"}


def remedies(path: Path) -> list[tuple[str, str]]:
    """What is to be installed, and with which extras; another project's are its own."""
    pairs = EXTRA.findall(path.read_text("utf-8"))
    return [(name, extras) for name, extras in pairs if name not in OTHERS]


def test_the_product_names_itself_and_an_extra() -> None:
    """Whoever reads it has it installed, and perhaps no clone."""
    for path in PRODUCT:
        for name, extra in remedies(path):
            assert name == "vpt-edge", path
            assert extra in EXTRAS | {"{extra}"}, path


def test_the_pages_install_from_the_clone() -> None:
    """Whoever reads them has nothing installed."""
    for path in PAGES:
        text = path.read_text("utf-8")
        for name, extras in remedies(path):
            assert set(extras.split(",")) <= EXTRAS
            is_later = f"Once there is a release, `pip install '{name}[{extras}]'`" in text
            assert name == "." or is_later, path


def test_pip_takes_what_is_installed_and_looks_for_no_release() -> None:
    arguments = ("install", "--dry-run", "--no-index", "vpt-edge[live,serve]")
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Requirement already satisfied: vpt-edge[" in done.stdout
