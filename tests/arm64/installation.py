"""What the user space needs of Python: the wheel of this tree, and AArch64's of what it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from golden import ROOT
from wheels import build_wheel

from arm64.user_space import PYTHON, UserSpace

# Beside what the wheel itself requires.
TOOLS = ("pytest", "hypothesis", "jinja2", "onnx", "starlette")
GLIBC = range(17, 37)  # to bookworm's; pip takes a wheel only for a platform that is named exactly
CONSTRAINTS = ROOT / "constraints.txt"
STAMP = "installed"


def install(space: UserSpace, wheels: Path) -> None:
    """Into /venv of the user space, which sees ``wheels`` at /wheels: what is needed when
    pyproject.toml, constraints.txt or the tools differ from the last time, the tree's own wheel
    always.
    """
    stamp = space.root / STAMP
    project = (ROOT / "pyproject.toml").read_text()
    versions = "\n".join((CONSTRAINTS.read_text(), project, *TOOLS))
    is_complete = stamp.exists() and stamp.read_text() == versions
    if not is_complete:
        stamp.unlink(missing_ok=True)
        shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        wheel = build_wheel(Path(work), wheels)
    pip = ("/venv/bin/python", "-m", "pip", "install", "--no-index", "--quiet")
    if not is_complete:
        _download(wheel, wheels)
        space.run("python3", "-m", "venv", "--clear", "/venv")
        space.run(*pip, "--find-links=/wheels", "vpt-edge[live]", *TOOLS)
    space.run(*pip, "--no-deps", "--force-reinstall", f"/wheels/{wheel.name}")
    stamp.write_text(versions)


def _download(wheel: Path, wheels: Path) -> None:
    """By this machine's pip: the user space needs no network."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--dest", str(wheels), f"--python-version={PYTHON}", "--implementation=cp"]
    command += [f"--platform=manylinux_2_{minor}_aarch64" for minor in GLIBC]
    command += ["--platform=manylinux2014_aarch64", "--only-binary=:all:"]
    command += ["--constraint", str(CONSTRAINTS), f"{wheel}[live]", *TOOLS]
    subprocess.run(command, check=True)
