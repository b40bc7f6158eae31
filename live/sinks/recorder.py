"""Frames that were asked about and what was answered, for a recording."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.live.recording import LINES, PICTURE
from vpt_edge.live.seen import Seen
from vpt_edge.live.sinks.jsonl import JsonLines
from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.files import replace_file

if TYPE_CHECKING:
    from vpt_edge.live.sinks.sink import Item
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.options import AskOptions

ENDLESS = 1 << 62  # bytes: lines that name pictures stay beside them
FAST = 1  # of zlib: a camera's noise does not shrink by more
DIGITS = 16  # of a digest, which tells bundles apart and guards nothing


class Recorder:
    """A sink that keeps in ``folder`` the frames that were asked about, and each answer.

    A picture is a PNG, pixel for pixel; recording.jsonl has a line an answer: that of ``JsonLines``
    with the picture's name, the options, the ids of each turn and the versions. A recording that is
    there goes on. Raises SinkError where ``folder`` holds something else.
    """

    wants = (Seen,)
    dropped = 0

    def __init__(
        self, folder: str | os.PathLike[str], manifest: Manifest, options: AskOptions
    ) -> None:
        self._folder = Path(folder)
        self._versions = find_versions(manifest)
        self._options = options
        self._frame: tuple[str, int] | None = None  # the last one that was saved
        self._count = 0
        self._check()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lines = JsonLines(self._folder / LINES, rotate=ENDLESS)

    def _check(self) -> None:
        if not self._folder.exists():
            return
        if not self._folder.is_dir():
            raise SinkError(f"{self._folder} is not a folder", "choose another name")
        names = {entry.name for entry in self._folder.iterdir()}
        if names and LINES not in names:
            problem = f"{self._folder} holds something else than a recording"
            raise SinkError(problem, "choose another folder")
        for name in names:
            match = PICTURE.fullmatch(name)
            if match is not None:
                self._count = max(self._count, int(match[1]) + 1)

    def put(self, item: Item) -> None:
        assert isinstance(item, Seen)
        frame = (item.shown.source, item.shown.number)
        if frame != self._frame:
            self._save(item)
            self._frame = frame
        line = item.to_dict()
        line["image"] = self._name(self._count - 1)
        line["options"] = self._options
        line["turns"] = item.answer.to_dict()["turns"]
        line["versions"] = self._versions
        self._lines.append(line)

    def _save(self, item: Seen) -> None:
        path = self._folder / self._name(self._count)
        with replace_file(path) as beside:
            item.shown.image.save(beside, "PNG", compress_level=FAST)
        self._count += 1

    @staticmethod
    def _name(number: int) -> str:
        return f"{number:06}.png"

    def close(self) -> None:
        self._lines.close()


def find_versions(manifest: Manifest) -> dict[str, str]:
    """Which release and which bundle answered."""
    files = repr(sorted(manifest.files.items())).encode()
    return {
        "vpt_edge": importlib.metadata.version("vpt-edge"),
        "source": manifest.source,
        "precision": manifest.precision,
        "bundle": hashlib.sha256(files).hexdigest()[:DIGITS],
    }
