"""A folder that is held open: whatever takes its name meanwhile, there is a way to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.snapshot import Snapshot, identify


class Pin:
    """The folder that stood at ``path``, until ``close``.

    Only Linux lets others open files through a handle to their folder, and only where /proc is
    there. Elsewhere, and where there is no folder, nothing is held.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = _open_folder(path)
        self._times = self._read_times()

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def place(self) -> Path:
        """The way to the folder, for every process of this user; ``path`` where nothing is held."""
        if self._handle is None:
            return self._path
        return _way(self._handle)

    @property
    def moved(self) -> bool:
        """Whether the folder was renamed, be it there and back: that changes its status, but not
        its content.
        """
        content, status = self._times
        now_content, now_status = self._read_times()
        return status != now_status and content == now_content

    def _read_times(self) -> tuple[int, int]:
        if self._handle is None:
            return 0, 0
        status = os.fstat(self._handle)
        return status.st_mtime_ns, status.st_ctime_ns

    def take_snapshot(self, names: Iterable[str]) -> Snapshot:
        """Of the folder and the files ``names`` in it."""
        return Snapshot.take(self.place, names)

    def find_change(self, before: Snapshot) -> str:
        """What is another than in ``before``, here or at ``path``; "" where nothing is."""
        if identify(self._path) != before.folder:
            return "the folder is another"
        return before.compare(self.take_snapshot(before.files))

    def find_exchange(self, before: Snapshot) -> str:
        """Which files of the folder were written or renamed since ``before``, be it there and back.

        Nothing where it is not held: whatever stands at ``path`` is compared by ``find_change``.
        """
        if self._handle is None:
            return ""
        return before.compare_states(self.take_snapshot(before.files))

    def refuse(self, change: str) -> None:
        """Raise BundleError where there is a ``change``."""
        if change:
            raise BundleError(
                f"{self._path} was replaced while it was in use: {change}", "open the bundle again"
            )

    def close(self) -> None:
        """Let the folder go; a second call does nothing."""
        handle = self._handle
        self._handle = None
        if handle is not None:
            os.close(handle)


def _open_folder(path: Path) -> int | None:
    """A handle to the folder at ``path``; None where there is no way through one."""
    if sys.platform != "linux":
        return None
    try:
        handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        leads_there = os.path.samestat(_way(handle).stat(), os.fstat(handle))
    except OSError:
        leads_there = False
    if leads_there:
        return handle
    os.close(handle)
    return None


def _way(handle: int) -> Path:
    return Path(f"/proc/{os.getpid()}/fd/{handle}")
