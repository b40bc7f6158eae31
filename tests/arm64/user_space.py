"""A small Debian of another processor in a folder, and commands in it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
PYTHON = "3.11"  # bookworm's
INCLUDE = "python3,python3-venv"
# A mount namespace of its own: whatever ends a command, with Ctrl-C or with kill -9, its mounts and
# all its processes are gone with it.
APART = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")
VARIABLES = {
    "PATH": "/venv/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class UserSpace:
    """``folder/root``; ``places`` are folders of this machine, by where they are seen inside:
    nothing can be written there, except in /out.
    """

    def __init__(self, folder: Path, places: dict[str, Path], variables: dict[str, str]) -> None:
        self.root = folder.resolve() / "root"
        self._places = places
        self._variables = {**VARIABLES, **variables}

    def make(self, mirror: str) -> None:
        """From ``mirror``, unless it is there."""
        if self.root.exists():
            return
        part = self.root.with_name("root.part")
        shutil.rmtree(part, ignore_errors=True)
        command = ["debootstrap", "--arch=arm64", "--variant=minbase", f"--include={INCLUDE}"]
        subprocess.run([*APART, *command, SUITE, str(part), mirror], check=True)
        part.rename(self.root)

    def run(self, *command: str, at: str = "/", check: bool = True) -> int:
        """Its exit code; ``at`` is the folder in which it runs.

        There is no /sys: ONNX Runtime would look for AArch64's there, find this machine's, and die
        of it.
        """
        lines = ["set -e", f"cd {shlex.quote(str(self.root))}"]
        lines += ["mount -t proc proc proc", "mount -t tmpfs tmpfs tmp"]
        lines += ["mount -t tmpfs tmpfs dev/shm"]
        for inside, outside in self._places.items():
            mode = "rw" if inside == "/out" else "ro"
            place = shlex.quote(inside.strip("/"))
            source = shlex.quote(str(outside.resolve()))
            lines += [f"mkdir -p {place}", f"mount --bind -o {mode} {source} {place}"]
        variables = [f"{name}={value}" for name, value in self._variables.items()]
        entry = ["env", "--ignore-environment", *variables, "chroot", ".", "env", f"--chdir={at}"]
        lines.append(f"exec {shlex.join([*entry, *command])}")
        whole = [*APART, "sh", "-c", "\n".join(lines)]
        return subprocess.run(whole, check=check).returncode
