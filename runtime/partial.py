"""What is being written, beside its place, and what killed processes have left of it.

A name says whose it is: ``.bundle.4321.x1y2z3w4.vpt-partial`` is what process 4321 writes in the
place of ``bundle``, and the same with ``.vpt-old`` the bundle that it has moved out of the way.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from vpt_edge.runtime.lock import HAS_LOCKS, is_at, try_lock

PARTIAL = ".vpt-partial"
OLD = ".vpt-old"
TOKEN = r"[a-z0-9_]{8}"  # of tempfile


def create_file(target: Path) -> tuple[int | None, Path]:
    """A new file beside ``target``, and the handle that keeps it locked until it is closed.

    No handle where the system has no locks, or could not rename an open file.
    """
    while True:
        handle, name = tempfile.mkstemp(prefix=_prefix(target), suffix=PARTIAL, dir=target.parent)
        path = Path(name)
        if not HAS_LOCKS:
            os.close(handle)
            return None, path
        with contextlib.suppress(OSError):  # no locks there: then nobody sweeps either
            try_lock(handle)
        if is_at(handle, path):
            return handle, path
        os.close(handle)  # taken for an orphan before it was locked


def create_folder_beside(target: Path) -> Path:
    """A new folder beside ``target``."""
    name = tempfile.mkdtemp(prefix=_prefix(target), suffix=PARTIAL, dir=target.parent)
    return Path(name)


def create_work_folder(folder: Path) -> Path:
    """A new folder beside one that ``create_folder_beside`` made, for what is not to be kept."""
    prefix = folder.name.removesuffix(PARTIAL) + "."
    return Path(tempfile.mkdtemp(prefix=prefix, suffix=PARTIAL, dir=folder.parent))


def old_name(folder: Path) -> Path:
    """The name of what stood in the place of a partial folder."""
    return folder.with_name(folder.name.removesuffix(PARTIAL) + OLD)


def sweep_files(target: Path) -> None:
    """Remove what was to become the file ``target`` and belongs to no process any more."""
    for path in _leftovers(target, PARTIAL):
        if path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or of somebody else
            _remove_orphan(path)


def recover_folder(target: Path) -> None:
    """Put back what a killed process has moved away from ``target``, and remove what it left.

    For whoever holds the lock of ``target``: then none of it belongs to a process any more.
    """
    for path in _leftovers(target, OLD):
        if path.is_symlink() or not path.is_dir():
            continue
        if os.path.lexists(target):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(target)
    for path in _leftovers(target, PARTIAL):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.{os.getpid()}."


def _leftovers(target: Path, end: str) -> list[Path]:
    """By their names, whoever they belong to."""
    name = re.compile(rf"\.{re.escape(target.name)}\.\d+(\.{TOKEN}){{1,2}}{re.escape(end)}")
    with os.scandir(target.parent) as entries:
        names = [entry.name for entry in entries if name.fullmatch(entry.name)]
    return [target.with_name(each) for each in sorted(names)]


def _remove_orphan(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if try_lock(handle) and is_at(handle, path):
            path.unlink()
    finally:
        os.close(handle)
