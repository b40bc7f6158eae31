"""make camera: boots a machine with the vivid driver and runs the tests of a camera in it.

On Debian, x86-64. It installs QEMU and what it needs where they are missing, as root, and downloads
Debian's kernel, which it does not install. The machine is emulated and sees this one's files, so
that the tree's own environment runs in it. Ends with 1 when anything fails.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from debian import install_packages
from golden import ROOT
from outcomes import print_table, read_outcome

from vivid.kernel import Kernel
from vivid.machine import run_machine

PACKAGES = ("qemu-system-x86", "busybox-static", "kmod", "cpio", "v4l-utils")
PYTEST = ("-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider", "--noconftest")
TESTS = "tests/vivid/check_camera.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    install_packages(*PACKAGES)
    report = folder / "out" / "report.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    log = folder / "out" / "log"
    log.unlink(missing_ok=True)
    variables = ("PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/root", "PYTHONDONTWRITEBYTECODE=1")
    tests = [sys.executable, *PYTEST, "--junitxml=/out/report.xml", TESTS]
    command = shlex.join(["env", f"--chdir={ROOT}", *variables, *tests])
    start = time.monotonic()
    run_machine(Kernel(folder), folder, f"exec {command} > /out/log 2>&1\n")
    if log.exists():
        print(log.read_text())
    outcome = read_outcome("a Video4Linux camera", report, time.monotonic() - start, code=0)
    print_table("with the vivid driver, emulated", [outcome])
    return 0 if outcome.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
