"""What no rename can replace: where other file systems are mounted, and files of others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
ESCAPED_IN_MOUNTS = b"\\ \t\n"


def find_mount(path: Path) -> Path | None:
    """Where a file system is mounted at the absolute ``path`` or below it: no rename can replace
    that, and what lies there is not on the same disk. None where there is none.
    """
    if path.is_mount():
        return path
    if not MOUNTS.exists():
        return None
    name = os.fsencode(path)
    for letter in ESCAPED_IN_MOUNTS:
        name = name.replace(bytes([letter]), b"\\%03o" % letter)
    for line in MOUNTS.read_bytes().splitlines():
        mount = line.split(b" ")[4]  # a bind mount of the same device shows only here
        if mount == name:
            return path
        if mount.startswith(name + b"/"):
            return path / os.fsdecode(mount[len(name) + 1 :])
    return None


def is_of_others(path: Path) -> bool:
    """Whether the file ``path`` lies in a folder such as /tmp, where only its owner renames it."""
    folder = path.parent.stat()
    if not folder.st_mode & stat.S_ISVTX:
        return False
    return os.geteuid() not in (0, folder.st_uid, path.stat().st_uid)
