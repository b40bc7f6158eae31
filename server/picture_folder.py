"""Pictures in a folder of this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote

from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.source import shorten
from vpt_edge.server.errors import RequestError

PREFIXES = ("file:///", "file://localhost/", "file:/")
STEP = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class PictureFolder:
    """Reads pictures of at most ``limit`` bytes at file: addresses below ``root``.

    Links count as what they lead to. Raises VptError where ``root`` is not a folder.
    """

    def __init__(self, root: Path, limit: int) -> None:
        if not root.is_dir():
            raise VptError(f"{root} is not a folder, expected one with pictures")
        self._root = Path(os.path.realpath(root))
        self._limit = limit

    def read(self, address: str) -> bytes:
        """The file at ``address``, such as file:///srv/pictures/street.jpg.

        Raises RequestError for what is not a file below the folder; what is elsewhere looks the
        same whether it exists or not.
        """
        shown = shorten(address)
        try:
            place = Path(os.path.realpath(_path_of(address)))
        except (OSError, ValueError):
            problem = f"the picture's address is {shown!r}, expected file:///FOLDER/NAME"
            raise _refusal(problem) from None
        if self._root not in place.parents:
            raise _refusal(f"{shown} is not below the folder from which this server reads")
        try:
            data = self._read(place.relative_to(self._root))
        except OSError:
            raise _refusal(f"{shown} is not a file that can be read") from None
        if len(data) > self._limit:
            problem = f"{shown} has more than {self._limit} bytes"
            raise RequestError(400, "image_too_large", problem, param="messages")
        return data

    def _read(self, place: Path) -> bytes:
        """The file at ``place``, and a byte more than may be of one that is too large.

        It goes from folder to folder and follows no link: what was looked up above may have been
        replaced since. Raises OSError.
        """
        folder = os.open(self._root, STEP | os.O_DIRECTORY)
        try:
            for name in place.parts[:-1]:
                below = os.open(name, STEP | os.O_DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = below
            _check_kind(os.stat(place.name, dir_fd=folder, follow_symlinks=False))
            file = os.open(place.name, STEP | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
        with os.fdopen(file, "rb") as stream:
            _check_kind(os.fstat(file))
            return stream.read(self._limit + 1)


def _check_kind(status: os.stat_result) -> None:
    """Raise OSError for a folder, a device, a pipe, a socket."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a file")


def _path_of(address: str) -> str:
    """Raises ValueError for an address without an absolute path."""
    for prefix in PREFIXES:
        start = address[: len(prefix)].lower()
        if start == prefix:
            path = address[len(prefix) - 1 :]
            break
    else:
        raise ValueError
    if path.startswith("//") or "?" in path or "#" in path:  # another machine's, or not a path
        raise ValueError
    return unquote(path, errors="surrogateescape")


def _refusal(problem: str) -> RequestError:
    return RequestError(400, "invalid_image_url", problem, param="messages")
