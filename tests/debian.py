"""Debian's packages and where this Debian has them from."""

from __future__ import annotations

import os
import shutil
import subprocess

LOCK = ("-o", "DPkg::Lock::Timeout=600")  # seconds, while another apt-get works


def install_packages(*names: str) -> None:
    """Those that are not installed. Raises SystemExit where this cannot be done."""
    if shutil.which("apt-get") is None:
        raise SystemExit("error: apt-get was not found; it installs on Debian alone")
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}"]
    missing = []
    for name in names:
        result = subprocess.run([*query, name], capture_output=True, text=True, check=False)
        if result.stdout != "installed":
            missing.append(name)
    if not missing:
        return
    if os.geteuid() != 0:
        command = f"sudo apt-get install --no-install-recommends {' '.join(missing)}"
        raise SystemExit(f"error: {' and '.join(missing)} are not installed; install: {command}")
    update_lists()
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*install, *LOCK], env=environment, check=True)


def update_lists() -> None:
    subprocess.run(["apt-get", "update", "--quiet", *LOCK], check=True)


def read_mirror() -> str:
    """The address from which this Debian is installed, as the system's own sources name it."""
    mirror = _main_archive()
    if not mirror:
        update_lists()
        mirror = _main_archive()
    if not mirror:
        raise SystemExit(
            "error: the sources of apt name no mirror of Debian's main archive; "
            "look at /etc/apt/sources.list and /etc/apt/sources.list.d"
        )
    return mirror


def _main_archive() -> str:
    wanted = ("Created-By: Packages", "Label: Debian", "Component: main")
    command = ["apt-get", "indextargets", "--format", "$(SUITE) $(REPO_URI)", *wanted]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in output.splitlines():
        suite, _, address = line.partition(" ")
        if not suite.endswith(("-updates", "-backports", "-proposed-updates")):
            return address
    return ""
