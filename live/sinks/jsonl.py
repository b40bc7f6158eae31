"""A line of JSON an answer, for programs."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vpt_edge.live.seen import Seen
from vpt_edge.runtime.errors import SinkError, printable
from vpt_edge.runtime.files import check_file

if TYPE_CHECKING:
    from vpt_edge.live.sinks.sink import Item

ROTATE = 1 << 26  # bytes
MODE = 0o644
KEEP = 4  # older files: FILE.1 is the newest of them
BLOCK = 1 << 16


def format_line(data: Mapping[str, Any]) -> bytes:
    """``data`` as it stands in a file, its newline included."""
    text = json.dumps(data, ensure_ascii=False)
    return printable(text).encode() + b"\n"


class JsonStream:
    """Lines of JSON into an open ``stream``, such as the standard output's."""

    wants = (Seen,)
    dropped = 0

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def put(self, item: Item) -> None:
        assert isinstance(item, Seen)
        self._stream.write(format_line(item.to_dict()))
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left: every line was flushed."""


class JsonLines:
    """Lines of JSON at the end of a file.

    Each is written by one call, so that a process that is killed leaves whole lines and at most a
    part of the last, which the next one takes away. A file of more than ``rotate`` bytes becomes
    ``path``.1, that one ``path``.2, and so on: ``keep`` of them stay. Where others rename or remove
    it, the next line begins another one. ``mode``: of a new one, less the umask.

    Raises SinkError and VptError for a place where such a file cannot be.
    """

    wants = (Seen,)
    dropped = 0

    def __init__(
        self,
        path: str | os.PathLike[str],
        rotate: int = ROTATE,
        keep: int = KEEP,
        mode: int = MODE,
    ) -> None:
        check_file(path)
        self._path = Path(path)
        self._rotate = rotate
        self._keep = keep
        self._mode = mode
        self._handle: int | None = None  # opened with the first line
        if self._path.exists():
            self._check()

    def _check(self) -> None:
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise SinkError(f"cannot write {self._path}: no permission", "choose another name")
        with self._path.open("rb") as file:
            first = file.read(1)
        if first not in (b"", b"{"):
            problem = f"{self._path} exists and holds something else than lines of JSON"
            raise SinkError(problem, "choose another name")

    def put(self, item: Item) -> None:
        assert isinstance(item, Seen)
        self.append(item.to_dict())

    def append(self, data: Mapping[str, Any]) -> None:
        """A line of its own for ``data``, of JSON types."""
        line = format_line(data)
        handle = self._open()
        size = os.fstat(handle).st_size
        if size and size + len(line) > self._rotate:
            handle = self._turn(handle)
            size = 0
        written = 0
        try:
            written = os.write(handle, line)
        finally:
            if written < len(line):
                os.ftruncate(handle, size)
        if written < len(line):
            raise SinkError(f"cannot write {self._path}: no space is left for a line")

    def _open(self) -> int:
        if self._handle is not None and not self._is_in_place(self._handle):
            self.close()
            if self._path.exists():
                self._check()
        if self._handle is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._handle = os.open(self._path, flags, self._mode)
            _cut_half_line(self._handle)
        return self._handle

    def _is_in_place(self, handle: int) -> bool:
        """Whether the open file still bears the name."""
        try:
            return os.path.samestat(os.fstat(handle), self._path.stat())
        except FileNotFoundError:
            return False

    def _turn(self, handle: int) -> int:
        """Make room for a new file, which may be read by whom the open one might."""
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        self.close()
        for number in range(self._keep, 1, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self._keep:
            self._path.replace(self._numbered(1))
        else:
            self._path.unlink()
        handle = self._open()
        os.fchmod(handle, mode)
        return handle

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None


def _cut_half_line(handle: int) -> None:
    """Take away what a killed process left behind the last newline."""
    size = os.fstat(handle).st_size
    end = size
    while end:
        start = max(0, end - BLOCK)
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)
