"""Bytes from whatever an application has: paths, pipes, files, memory."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import stat
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import IO, Any

from vpt_edge.runtime.errors import ImageError

SOURCES = "expected a path, bytes, a binary file, a PIL image or an RGB array"
STREAM_BYTES = 1 << 28  # of a pipe, which tells no size and may never end
SHOWN = 100  # characters of what was found, in an error
ADDRESS = re.compile(r"(?:https?|ftp|rtsp|s3|gs|file):/", re.IGNORECASE)
NOT_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


@contextlib.contextmanager
def open_source(source: Any) -> Iterator[tuple[IO[bytes], str]]:
    """A stream that can go back, and what to call it in an error.

    ``source``: a path, which may be a pipe's, bytes of any kind, or a binary file. Raises
    ImageError for anything else.
    """
    if isinstance(source, str | PathLike):
        path = os.fsdecode(source)
        if not path:
            raise ImageError(f"the path is empty, {SOURCES}")
        name = shorten(path)
        with _open_path(path, name) as file:
            yield _rewindable(file, name), name
    elif isinstance(source, bytes | bytearray | memoryview):
        data = _bytes(source)
        yield io.BytesIO(data), f"the data of {len(data)} bytes"
    elif hasattr(source, "read"):
        name = f"the {type(source).__name__}"
        yield _rewindable(source, name), name
    else:
        found = "None" if source is None else type(source).__name__
        raise ImageError(f"the picture is {found}, {SOURCES}")


def shorten(text: str) -> str:
    """``text`` on one line, without its middle where it is long."""
    line = " ".join(text.splitlines())
    if len(line) <= SHOWN:
        return line
    half = SHOWN // 2
    return f"{line[:half]}…{line[-half:]} ({len(text)} characters)"


def _open_path(path: str, name: str) -> IO[bytes]:
    try:
        kind = NOT_FILES.get(stat.S_IFMT(Path(path).stat().st_mode))
        if kind is None:
            return Path(path).open("rb")
    except FileNotFoundError:
        reason = "the file is missing"
    except (OSError, ValueError) as error:  # ValueError: of a name that no file can have
        reason = getattr(error, "strerror", None) or str(error)
    else:
        reason = f"it is {kind}"
    if path.startswith("data:"):
        fix = "decode what is behind its comma: base64.b64decode"
        raise ImageError(f"{name} is a data: URI, {SOURCES}", fix)
    if ADDRESS.match(path):
        fix = "fetch it, and give the file or its bytes"
        raise ImageError(f"{name} is an address, {SOURCES}", fix)
    raise ImageError(f"no picture at {name}: {reason}")


def _bytes(data: bytes | bytearray | memoryview) -> bytes:
    try:
        return bytes(data)
    except ValueError as error:
        raise ImageError(f"the {type(data).__name__} cannot be read: {error}") from error


def _rewindable(file: Any, name: str) -> IO[bytes]:
    """``file``, or what it gives where it cannot go back."""
    if isinstance(file, io.TextIOBase):
        raise ImageError(f"{name} gives text, {SOURCES}", 'open it with "rb"')
    if inspect.iscoroutinefunction(file.read):
        raise ImageError(f"{name} is to be awaited, {SOURCES}", "give what its read() gives")
    try:
        if hasattr(file, "seekable") and file.seekable():
            return file
        data = _read(file, name)
    except ImageError:
        raise
    except Exception as error:  # of any file of any library
        raise ImageError(f"{name} cannot be read: {shorten(str(error))}") from error
    return io.BytesIO(data)


def _read(file: Any, name: str) -> bytes:
    """All that ``file`` gives, which may be little at once."""
    data = bytearray()
    while piece := file.read(STREAM_BYTES + 1 - len(data)):
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise ImageError(f"{name} gives {type(piece).__name__}, {SOURCES}")
        data += piece
        if len(data) > STREAM_BYTES:
            raise ImageError(f"{name} gives more than {STREAM_BYTES >> 20} MiB, {SOURCES}")
    return bytes(data)
