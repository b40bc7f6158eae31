"""Files and folders that appear whole: written beside their place, brought to the disk, then
renamed.

A symlink is followed: what it points to is replaced. At every moment the old or the new one stands
in the place.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vpt_edge.runtime.errors import VptError

PARTIAL = ".partial"  # the end of the name of what is being written
FILE_MODE = 0o644  # whatever the umask: others may run what one user has made
FOLDER_MODE = 0o755
MOUNTS = Path("/proc/self/mountinfo")
ESCAPED_IN_MOUNTS = b"\\ \t\n"
AT_FDCWD = -100
RENAME_EXCHANGE = 2
HASH_BLOCK = 1 << 22
NO_FOLDER_SYNC = (
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EBADF,
)  # from file systems that cannot sync a folder


def resolve(path: str | os.PathLike[str]) -> Path:
    """The absolute place behind ``path``, every symlink followed, whether it exists or not."""
    return Path(os.path.realpath(path))


def check_file(path: str | os.PathLike[str]) -> None:
    """Raises VptError where ``replace_file`` could not write: to be asked before the work whose
    result it takes.
    """
    target = resolve(path)
    if not target.parent.is_dir():
        raise VptError(f"cannot write {path}: its folder does not exist; make it first")
    if target.exists() and not target.is_file():
        raise VptError(
            f"cannot write {path}: it exists and is not a regular file; choose another name"
        )
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise VptError(
            f"cannot write {path}: no permission to write into its folder; choose another one"
        )


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file to be written, which takes the place of ``path`` at the end, or is removed
    after an error.

    Raises VptError as ``check_file`` does, and OSError.
    """
    check_file(path)
    target = resolve(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(FILE_MODE)
        _sync(beside)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def write_file(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write ``data`` as ``replace_file`` does: a half file never bears the name."""
    with replace_file(path) as beside:
        beside.write_bytes(data)


@contextmanager
def create_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder to be filled, which becomes ``path`` at the end, or is removed after an
    error.

    Raises VptError where something stands there already, or where nothing can be written, and
    OSError.
    """
    target = resolve(path)
    if target.exists():
        raise VptError(f"{path} exists already; choose another folder")
    with _folder_beside(target, Path.rename) as folder:
        yield folder


@contextmanager
def replace_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder to be filled, which takes the place of ``path`` at the end, or is removed
    after an error.

    A folder that stands there then is removed with all that it holds: what may be lost, the caller
    has to know. Raises VptError where nothing can be written, and OSError.
    """
    with _folder_beside(resolve(path), _swap) as folder:
        yield folder


def is_mount_point(path: Path) -> bool:
    """Whether a file system is mounted at the absolute ``path``: no rename can replace it."""
    if path.is_mount():
        return True
    if not MOUNTS.exists():
        return False
    name = os.fsencode(path)
    for letter in ESCAPED_IN_MOUNTS:
        name = name.replace(bytes([letter]), b"\\%03o" % letter)
    lines = MOUNTS.read_bytes().splitlines()
    return any(
        line.split(b" ")[4] == name for line in lines
    )  # a bind mount of the same device shows only here


@contextmanager
def _folder_beside(target: Path, put: Callable[[Path, Path], object]) -> Iterator[Path]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(
            tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent)
        )
    except OSError as error:
        raise VptError(
            f"cannot write into {target.parent}: {error.strerror}; choose another folder"
        ) from error
    try:
        yield folder
        _settle(folder)
        put(folder, target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # unfinished, or the old one after an exchange


def _settle(folder: Path) -> None:
    """Modes, and everything on the disk before the name is."""
    for root, _, names in os.walk(folder):
        for name in names:
            file = Path(root, name)
            file.chmod(FILE_MODE)
            _sync(file)
        Path(root).chmod(FOLDER_MODE)
        _sync_folder(Path(root))


def _swap(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    if _exchange(folder, target):
        return
    old = folder.with_name(f"{folder.name}.old")
    try:
        target.rename(old)
        folder.rename(target)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap the two in one call; False where the system or its file system cannot."""
    if os.name != "posix":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # of Linux
    if rename is None:
        return False
    rename.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    status: int = rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
    return status == 0


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened there
        return
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
