"""One writer a place: a lock beside it, which the system takes back from a process that dies."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vpt_edge.runtime.errors import VptError

try:
    import fcntl
except ImportError:  # of Unix alone
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None
LOCK = ".vpt-lock"  # the end of a lock's name
# From file systems that have no locks, such as some that lie behind a network.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
OWNER_BYTES = 300


class LockedError(VptError):
    """Somebody else is writing."""


def lock_file(place: Path) -> Path:
    """The lock of ``place``, beside it."""
    return place.with_name(f".{place.name}{LOCK}")


@contextmanager
def lock_place(place: Path, writer: str) -> Iterator[bool]:
    """Keep other writers away from ``place`` for the block.

    ``writer``: what such a one is called, as "export". The value says whether the lock is held:
    False, with a warning, on a file system without locks. Raises LockedError where another process
    writes there, with its number, and OSError.
    """
    path = lock_file(place)
    handle = _acquire(path, place, writer)
    if handle is None:
        warnings.warn(
            f"{place.parent} lies on a file system without locks: another {writer} that writes "
            f"{place.name} at the same time is not noticed, and what a killed one left there is "
            "not removed",
            stacklevel=4,
        )
        yield False
        return
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()} {socket.gethostname()}\n".encode())
        yield True
    finally:
        with contextlib.suppress(OSError):  # an empty file without a lock is in nobody's way
            path.unlink()
        os.close(handle)


def read_writer(place: Path) -> str | None:
    """Who writes ``place`` now, as "process 12"; None where nobody does, or nobody can tell."""
    try:
        handle = os.open(lock_file(place), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if try_lock(handle) else _owner(handle)
    except OSError:
        return None
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Lock an open file until it is closed; False where another process holds it. Raises OSError
    where there are no locks.
    """
    if not HAS_LOCKS:
        raise OSError(errno.ENOSYS, "this system has no locks for files")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(handle: int, path: Path) -> bool:
    """Whether the open file still bears the name ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _acquire(path: Path, place: Path, writer: str) -> int | None:
    """The open and locked file ``path``; None on a file system without locks."""
    if not HAS_LOCKS:
        return None
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        is_held = False
        try:
            if not try_lock(handle):
                raise LockedError(
                    f"cannot write {place}: another {writer} is writing here ({_owner(handle)})",
                    "wait until it has ended, or choose another name",
                )
            # Whoever held it before may have removed the file since it was opened.
            is_held = is_at(handle, path)
            if is_held:
                return handle
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            return None
        finally:
            if not is_held:
                os.close(handle)


def _owner(handle: int) -> str:
    """Who has written into a lock."""
    words = os.pread(handle, OWNER_BYTES, 0).decode(errors="replace").split()
    if not words:
        return "a process that has just begun"
    if len(words) > 1 and words[1] != socket.gethostname():
        return f"process {words[0]} on {words[1]}"
    return f"process {words[0]}"
