"""Files and folders that appear whole: written beside their place, brought to the disk, then
renamed.

A symlink is followed: what it points to is replaced. At every moment the old or the new one stands
in the place, or the old one is put back when the place is written again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.exchange import exchange
from vpt_edge.runtime.lock import lock_file, lock_place
from vpt_edge.runtime.mounts import find_mount, is_of_others
from vpt_edge.runtime.partial import (
    create_file,
    create_folder_beside,
    create_work_folder,
    old_name,
    recover_folder,
    sweep_files,
)

FILE_MODE = 0o644  # whatever the umask: others may run what one user has made
FOLDER_MODE = 0o755
HASH_BLOCK = 1 << 22
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # a file system cannot sync a folder


def resolve(path: str | os.PathLike[str]) -> Path:
    """The absolute place behind ``path``, every symlink followed, whether it exists or not."""
    return Path(os.path.realpath(path))


def _resolve_name(path: str | os.PathLike[str]) -> Path:
    """``resolve``. Raises VptError for what is no file's name."""
    try:
        return resolve(path)
    except ValueError as error:
        raise VptError(f"{path!r} cannot be a file: {error}") from error


def check_file(path: str | os.PathLike[str]) -> None:
    """Raises VptError where ``replace_file`` could not write: to be asked before the work whose
    result it takes. A file is made beside the place to see it, and removed.
    """
    target = _check_place(path)
    with _file_beside(path, target):
        pass


def _check_place(path: str | os.PathLike[str]) -> Path:
    """The file behind ``path``. Raises VptError where none can be, or replace what is there."""
    target = _resolve_name(path)
    try:
        if not target.parent.is_dir():
            raise VptError(f"cannot write {path}: its folder does not exist; make it first")
        reason = ""
        if target.exists() and not target.is_file():
            reason = "it exists and is not a regular file"
        elif target.exists() and (find_mount(target) or is_of_others(target)):
            reason = "the file that is there cannot be replaced"
        if reason:
            raise VptError(f"cannot write {path}: {reason}", "choose another name")
    except OSError as error:  # a name too long, or a folder that may not be searched
        raise _no_file(path, error) from error
    return target


def _no_file(path: str | os.PathLike[str], error: OSError) -> VptError:
    problem = f"cannot write {path}: {error.strerror or error}"
    return VptError(problem, "choose another folder or name")


@contextmanager
def _file_beside(path: str | os.PathLike[str], target: Path) -> Iterator[Path]:
    """A new file, which is removed behind the block unless it has another name then.

    Raises VptError, with the name ``path``, where the folder takes none.
    """
    try:
        sweep_files(target)
        handle, beside = create_file(target)
    except OSError as error:
        raise _no_file(path, error) from error
    try:
        yield beside
    finally:
        with contextlib.suppress(OSError):  # swept by the next one
            beside.unlink()
        if handle is not None:
            os.close(handle)


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file to be written, which takes the place of ``path`` at the end, or is removed
    after an error.

    What processes that were killed have left of the same file is removed first. Raises VptError as
    ``check_file`` does, and OSError.
    """
    target = _check_place(path)
    with _file_beside(path, target) as beside:
        yield beside
        beside.chmod(FILE_MODE)
        sync(beside)
        beside.replace(target)
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
    target = _resolve_name(path)

    def check() -> None:
        if target.exists():
            raise VptError(f"{path} exists already; choose another folder")

    with _folder_beside(target, "process", check, Path.rename) as folder:
        yield folder


@contextmanager
def replace_folder(
    path: str | os.PathLike[str],
    writer: str = "process",
    check: Callable[[], object] = lambda: None,
) -> Iterator[Path]:
    """An empty folder to be filled, which takes the place of ``path`` at the end, or is removed
    after an error.

    A folder that stands there then is removed with all that it holds: ``check``, which is called
    before the work and before that, says by an error what may not be lost. Until the end ``path``
    is locked against any other ``writer``; what a killed one has moved away is put back first, and
    what it left is removed. Raises VptError where nothing can be written, and OSError.
    """
    with _folder_beside(_resolve_name(path), writer, check, _swap) as folder:
        yield folder


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the one that ``replace_folder`` gave, for what is not to be kept."""
    work = create_work_folder(folder)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _folder_beside(
    target: Path, writer: str, check: Callable[[], object], put: Callable[[Path, Path], object]
) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_parents(target))
            if stack.enter_context(lock_place(target, writer)):
                recover_folder(target)
            check()  # what was put back, too
            _check_movable(target)
            folder = create_folder_beside(target)
        except OSError as error:
            problem = f"cannot write into {target.parent}: {error.strerror or error}"
            raise VptError(problem, "choose another folder") from error
        try:
            yield folder
            _settle(folder)
            check()
            try:
                put(folder, target)
            except OSError as error:
                problem = f"cannot put the new folder at {target}: {error.strerror or error}"
                raise VptError(problem, "remove what is there, or choose another folder") from error
            _sync_folder(target.parent)
        finally:
            # Unfinished, or the old one after an exchange.
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """The folders above ``target``, which go again after an error where they are new."""
    missing = []
    for folder in target.parents:
        if folder.exists():
            break
        missing.append(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        raise


def _check_movable(target: Path) -> None:
    """Raises VptError where the folder ``target`` could not be renamed when the work is done: of
    another user in a sticky folder, or made immutable.

    No system renames a folder over a file; whether it might be renamed at all is what the system
    looks at first.
    """
    if not target.is_dir() or not lock_file(target).is_file():
        return
    try:
        target.replace(lock_file(target))
    except NotADirectoryError:
        return
    except OSError as error:
        raise VptError(
            f"cannot replace {target}: {error.strerror}; remove it, or choose another folder"
        ) from error


def _settle(folder: Path) -> None:
    """Modes, and everything on the disk before the name is."""
    for root, _, names in os.walk(folder):
        for name in names:
            file = Path(root, name)
            file.chmod(FILE_MODE)
            sync(file)
        Path(root).chmod(FOLDER_MODE)
        _sync_folder(Path(root))


def _swap(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    if exchange(folder, target):
        return
    old = old_name(folder)
    try:
        target.rename(old)
        folder.rename(target)
    finally:
        # Whatever has happened, one of the two stands there; where not even this succeeds, the next
        # writer puts it back.
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened there
        return
    try:
        sync(path)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
