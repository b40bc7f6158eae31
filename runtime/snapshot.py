"""What stands in a folder at one moment: another file under the same name is noticed later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """Of a file, and of the symlink that may lead to it.

    ``numbers``: of the file system, the file and the link; ``state``: the file's size, the times of
    its last change, and that of the link's. A rename, too, changes that, and nobody sets it back.
    """

    numbers: tuple[int, ...]
    state: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """A folder and files in it, each with its identity; None for what is not there."""

    folder: tuple[int, int] | None
    files: Mapping[str, Identity | None]

    @classmethod
    def take(cls, folder: Path, names: Iterable[str]) -> Snapshot:
        """Of ``folder`` and the files ``names`` in it, as they are now; symlinks are followed."""
        return cls(identify(folder), {name: _identify_file(folder / name) for name in names})

    def compare(self, later: Snapshot) -> str:
        """What is another in ``later``, in words; "" where nothing is."""
        if later.folder != self.folder:
            return "the folder is another"
        changed = [name for name in self.files if later.files[name] != self.files[name]]
        return _changed(changed)

    def compare_states(self, later: Snapshot) -> str:
        """``compare`` by the files' states alone: some file systems number their files anew as they
        like.
        """
        changed = list[str]()
        for name, file in self.files.items():
            now = later.files[name]
            if file is None or now is None or file.state != now.state:
                changed.append(name)
        return _changed(changed)


def _changed(names: list[str]) -> str:
    if not names:
        return ""
    return f"{', '.join(names)} changed"


def identify(folder: Path) -> tuple[int, int] | None:
    """Device and number of ``folder``: what is added to it does not matter."""
    try:
        status = folder.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _identify_file(path: Path) -> Identity | None:
    try:
        file = path.stat()
        link = path.lstat()
    except (OSError, ValueError):
        return None
    numbers = (file.st_dev, file.st_ino, link.st_ino)
    return Identity(numbers, (file.st_size, file.st_mtime_ns, file.st_ctime_ns, link.st_ctime_ns))
