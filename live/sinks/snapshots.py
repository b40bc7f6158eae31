"""A folder an answer: the picture, what was looked at again, and the words."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vpt_edge.live.seen import Seen
from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.files import create_folder, resolve

if TYPE_CHECKING:
    from vpt_edge.live.sinks.sink import Item

COUNT = 1000
BYTES = 1 << 30
QUALITY = 90  # of a JPEG
NAME = re.compile(r"\d{8,}")


class Snapshot(NamedTuple):
    folder: Path
    bytes: int


class Snapshots:
    """Folders in ``path``, named by a number that goes on, each complete when it appears.

    They hold picture.jpg, crop_N.jpg and answer.json. At most ``count`` of them, with ``limit``
    bytes, are kept: the oldest go first, those of an earlier watch too, and nothing else is
    touched. Raises SinkError where ``path`` cannot be such a folder.
    """

    wants = (Seen,)
    dropped = 0

    def __init__(
        self, path: str | os.PathLike[str], count: int = COUNT, limit: int = BYTES
    ) -> None:
        self._path = resolve(path)
        self._count = count
        self._limit = limit
        self._kept: deque[Snapshot] = deque()
        nearest = _nearest(self._path)
        if not nearest.is_dir():
            raise SinkError(f"{nearest} is not a folder", "choose another name")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise SinkError(f"cannot write into {path}: no permission", "choose another folder")
        if self._path.is_dir():
            folders = [entry for entry in self._path.iterdir() if NAME.fullmatch(entry.name)]
            for folder in sorted(folders, key=lambda folder: int(folder.name)):
                self._kept.append(Snapshot(folder, _bytes(folder)))
        self._next = 0
        if self._kept:
            self._next = int(self._kept[-1].folder.name) + 1

    def put(self, item: Item) -> None:
        assert isinstance(item, Seen)
        folder = self._path / f"{self._next:08}"
        self._next += 1
        crops = [look.crop for look in item.answer.looks if look.crop is not None]
        with create_folder(folder) as beside:
            item.answer.image.save(beside / "picture.jpg", quality=QUALITY)
            for index, crop in enumerate(crops):
                if 0 not in crop.size:  # of a tiny picture
                    crop.save(beside / f"crop_{index}.jpg", quality=QUALITY)
            text = json.dumps(item.to_dict(), indent=1)
            (beside / "answer.json").write_text(text + "\n", "utf-8")
        self._kept.append(Snapshot(folder, _bytes(folder)))
        self._remove_oldest()

    def _remove_oldest(self) -> None:
        """As many as are too many; the newest stays in any case."""
        total = sum(snapshot.bytes for snapshot in self._kept)
        while len(self._kept) > 1 and (len(self._kept) > self._count or total > self._limit):
            oldest = self._kept.popleft()
            total -= oldest.bytes
            shutil.rmtree(oldest.folder, ignore_errors=True)  # gone already, perhaps

    def close(self) -> None:
        """Nothing is left: every folder is complete."""


def _nearest(path: Path) -> Path:
    """``path``, or the folder above it in which it would be made."""
    while not path.exists():
        path = path.parent
    return path


def _bytes(folder: Path) -> int:
    """What its files take."""
    total = 0
    for file in folder.iterdir():
        total += file.stat().st_size
    return total
