"""What waits to be sent, on the disk: it outlives the process, and the machine's power."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.files import resolve, write_file
from vpt_edge.runtime.lock import NO_LOCKS, try_lock
from vpt_edge.runtime.partial import PARTIAL, sweep_files

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_MODE = 0o700  # answers are nobody else's business
NAME = re.compile(r"(\d{12})-([0-9a-f]{32})\.json")
LOCK = "sender"


class Letter(NamedTuple):
    """``id`` tells it from any other, for ever."""

    path: Path
    id: str
    bytes: int


class Spool:
    """Files in the folder ``path``, in order: at most ``count`` of them with ``limit`` bytes.

    Several processes may write into one; one at a time sends. Raises SinkError for a place where it
    cannot be.
    """

    def __init__(self, path: str | os.PathLike[str], count: int, limit: int) -> None:
        self.path = resolve(path)
        self._count = count
        self._limit = limit
        self._lock: int | None = None
        try:
            self.path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SinkError(f"cannot keep messages in {path}: {reason}") from None
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise SinkError(f"cannot keep messages in {path}: no permission")

    def _sweep(self) -> None:
        """Remove what processes that were killed had half written."""
        for entry in os.scandir(self.path):
            name = entry.name.removeprefix(".").split(".json.")[0] + ".json"
            if entry.name.endswith(PARTIAL) and NAME.fullmatch(name):
                sweep_files(self.path / name)

    def append(self, data: bytes) -> int:
        """Keep ``data``; how many letters, the oldest, were dropped for it.

        Raises OSError and VptError where it cannot be written.
        """
        if len(data) > self._limit:
            raise SinkError(f"an answer has {len(data)} bytes, of at most {self._limit} that wait")
        self.path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)  # somebody tidied up, perhaps
        letters = self.letters()
        number = 0
        if letters:
            number = int(letters[-1].path.name.partition("-")[0]) + 1
        write_file(self.path / f"{number:012}-{uuid.uuid4().hex}.json", data)
        total = len(data) + sum(letter.bytes for letter in letters)
        excess = 0
        while len(letters) - excess >= self._count or total > self._limit:
            total -= letters[excess].bytes
            self.remove(letters[excess])
            excess += 1
        return excess

    def letters(self) -> list[Letter]:
        """All, the oldest first."""
        letters = list(self._scan())
        return sorted(letters)

    def _scan(self) -> Iterator[Letter]:
        with os.scandir(self.path) as entries:
            for entry in entries:
                match = NAME.fullmatch(entry.name)
                if match is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # sent by another process
                    yield Letter(Path(entry.path), match[2], entry.stat().st_size)

    def read(self, letter: Letter) -> bytes | None:
        """What it says; None where it is gone, sent by another process or dropped."""
        try:
            return letter.path.read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, letter: Letter) -> None:
        """It was sent, or is given up."""
        letter.path.unlink(missing_ok=True)

    def may_send(self) -> bool:
        """Whether this process is the one that sends, from now on until it ends."""
        if self._lock is not None:
            return True
        handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if try_lock(handle):
                self._lock = handle
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            self._lock = handle  # no locks there: whoever sends one more than once tells its id
        finally:
            if self._lock is None:
                os.close(handle)
        return self._lock is not None

    def close(self) -> None:
        """Let another process send."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None
