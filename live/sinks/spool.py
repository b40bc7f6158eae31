"""What waits to be sent, on the disk: it outlives the process, and the machine's power."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import uuid
from typing import NamedTuple

from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.files import resolve, write_file
from vpt_edge.runtime.lock import NO_LOCKS, try_lock
from vpt_edge.runtime.partial import PARTIAL, sweep_files

FOLDER_MODE = 0o700  # answers are nobody else's business
END = ".json"
NAME = re.compile(r"\d{12}-\d+-[0-9a-f]{32}\.json")
NEW = "new"  # a folder for what is being written: a small one is listed soon
LOCK = "sender"
FRESH = 10.0  # seconds until a list may miss what other processes did


class Letter(NamedTuple):
    """A file by its name, which says all: thousands of them are listed at once."""

    name: str

    @property
    def number(self) -> int:
        """Its place in the order."""
        return int(self.name.split("-")[0])

    @property
    def bytes(self) -> int:
        return int(self.name.split("-")[1])

    @property
    def id(self) -> str:
        """It tells the letter from any other, for ever."""
        return self.name.split("-")[2].removesuffix(END)


class Spool:
    """Files in the folder ``path``, in order: at most ``count`` of them with ``limit`` bytes.

    Several processes may write into one; one at a time sends. Raises SinkError for a place where it
    cannot be.
    """

    def __init__(self, path: str | os.PathLike[str], count: int, limit: int) -> None:
        self.path = resolve(path)
        self._count = count
        self._limit = limit
        self._sender: int | None = None  # the handle of the lock
        self._lock = threading.Lock()  # of what follows
        self._bytes: dict[Letter, int] = {}  # of those that are known, in order
        self._listed = 0.0  # when they were
        try:
            self._make_folders()
            self._settle()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SinkError(f"cannot keep messages in {path}: {reason}") from None

    def _make_folders(self) -> None:
        (self.path / NEW).mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        self.path.chmod(FOLDER_MODE)

    def _settle(self) -> None:
        """What killed processes have written goes into its place, and what is half goes away."""
        for file in (self.path / NEW).iterdir():
            name = file.name.removeprefix(".").partition(END)[0] + END
            if not NAME.fullmatch(name):
                continue
            if file.name.endswith(PARTIAL):
                sweep_files(file.with_name(name))
            elif file.name == name:
                self._publish(name)

    def _publish(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            (self.path / NEW / name).replace(self.path / name)

    def append(self, data: bytes) -> int:
        """Keep ``data``; how many letters, the oldest, were dropped for it.

        Raises OSError and VptError where it cannot be written.
        """
        if len(data) > self._limit:
            raise SinkError(f"an answer has {len(data)} bytes, of at most {self._limit} that wait")
        if time.monotonic() - self._listed > FRESH:
            self._make_folders()  # somebody tidied up, perhaps
            self.letters()
        number = 0
        with self._lock:
            if self._bytes:
                number = next(reversed(self._bytes)).number + 1
        letter = Letter(f"{number:012}-{len(data)}-{uuid.uuid4().hex}{END}")
        write_file(self.path / NEW / letter.name, data)
        with self._lock:
            self._bytes[letter] = len(data)
        self._publish(letter.name)
        excess = self._find_excess()
        for oldest in excess:
            self.remove(oldest)
        return len(excess)

    def _find_excess(self) -> list[Letter]:
        """The oldest, as many as are too many."""
        excess = []
        with self._lock:
            count = len(self._bytes)
            total = sum(self._bytes.values())
            for letter, size in self._bytes.items():
                if count <= self._count and total <= self._limit:
                    break
                count -= 1
                total -= size
                excess.append(letter)
        return excess

    def letters(self) -> list[Letter]:
        """All, the oldest first."""
        with self._lock:
            names = [entry.name for entry in os.scandir(self.path)]
            letters = [Letter(name) for name in sorted(names) if NAME.fullmatch(name)]
            self._bytes = {letter: letter.bytes for letter in letters}
            self._listed = time.monotonic()
        return letters

    def read(self, letter: Letter) -> bytes | None:
        """What it says; None where it is gone, sent by another process or dropped."""
        try:
            return (self.path / letter.name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, letter: Letter) -> None:
        """It was sent, or is given up."""
        (self.path / letter.name).unlink(missing_ok=True)
        with self._lock:
            self._bytes.pop(letter, None)

    def may_send(self) -> bool:
        """Whether this process is the one that sends, from now on until it ends."""
        if self._sender is not None:
            return True
        handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if try_lock(handle):
                self._sender = handle
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            self._sender = handle  # without locks: who is sent a letter twice tells it by its id
        finally:
            if self._sender is None:
                os.close(handle)
        return self._sender is not None

    def close(self) -> None:
        """Let another process send."""
        if self._sender is not None:
            os.close(self._sender)
        self._sender = None
