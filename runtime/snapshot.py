"""What stands in a folder at one moment: another file under the same name is noticed later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from vpt_edge.runtime.errors import BundleError

Identity: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """``folder`` and the files in it, each with its identity; None for what is not there."""

    folder: Path
    identity: Identity | None
    files: Mapping[str, Identity | None]

    @classmethod
    def take(cls, folder: Path, names: Iterable[str]) -> Snapshot:
        """Of ``folder`` and the files ``names`` in it, as they are now; symlinks are followed."""
        identity = _identify(folder)
        if identity is not None:
            identity = identity[:2]  # what is added to the folder does not matter
        return cls(folder, identity, {name: _identify(folder / name) for name in names})

    def check(self) -> None:
        """Raise BundleError where anything is not what it was."""
        now = Snapshot.take(self.folder, self.files)
        changed = [name for name in self.files if now.files[name] != self.files[name]]
        if now.identity == self.identity and not changed:
            return
        what = "the folder is another"
        if now.identity == self.identity:
            what = f"{', '.join(changed)} changed"
        raise BundleError(
            f"{self.folder} was replaced while it was in use: {what}", "open the bundle again"
        )


def _identify(path: Path) -> Identity | None:
    """Device, number, size and time of change of what stands at ``path``."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
