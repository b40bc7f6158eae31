"""Where replies wait for the next run: a file of JSON lines, one a reply, written as they come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.files import resolve, sha256
from vpt_edge.runtime.lock import lock_place
from vpt_edge.runtime.schema import parse_json
from vpt_edge.tuning.reply import Reply

if TYPE_CHECKING:
    from vpt_edge.calibration.sample import Sample

FORMAT = 1  # raised when the lines change
HEAD = {"vpt-tune": FORMAT}
FIX = "choose another name with --report, or remove the file"


def hash_samples(samples: Sequence[Sample]) -> str:
    """The sha256 of what is asked: the pictures' bytes, questions, true answers and modes."""
    hashes: dict[Path, str] = {}
    digest = hashlib.sha256()
    for sample in samples:
        for path in (sample.image, *sample.others):
            if path not in hashes:
                hashes[path] = sha256(path)
        pictures = [hashes[path] for path in (sample.image, *sample.others)]
        parts = [pictures, sample.question, sample.answer, sample.perception, sample.box]
        digest.update(json.dumps(parts).encode() + b"\n")
    return digest.hexdigest()


def hash_trial(parts: Mapping[str, Any]) -> str:
    """The key of a trial: of everything that its replies depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Journal:
    """The replies of all trials in the file ``path``, by the trial's key and the sample's index."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies: dict[str, dict[int, Reply]] = {}
        self._file: TextIO | None = None

    @contextmanager
    def open(self) -> Iterator[Journal]:
        """Read what is there, and write behind it until the block ends.

        Raises VptError for a file that holds anything else, LockedError where another process
        writes it, and OSError.
        """
        with lock_place(resolve(self._path), "tuning"):
            length = self._read()
            with self._path.open("a", encoding="utf-8") as self._file:
                self._file.truncate(length)
                if not length:
                    self._write(HEAD)
                yield self
        self._file = None

    def read(self, trial: str) -> dict[int, Reply]:
        """The replies of ``trial`` by the samples' indices."""
        return dict(self._replies.get(trial, {}))

    def write(self, trial: str, index: int, reply: Reply) -> None:
        """Keep a reply: it is in the file when this returns."""
        self._replies.setdefault(trial, {})[index] = reply
        self._write({"trial": trial, "sample": index, **reply.to_dict()})

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _read(self) -> int:
        """Read the file; returns how many of its bytes are whole lines: the last one may be cut."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return 0
        head, *lines = data.split(b"\n")[:-1] or [b""]
        if data and _parse(head) != HEAD:
            raise VptError(f"{self._path} is not a journal of this vpt-tune", FIX)
        for number, line in enumerate(lines, 2):
            try:
                entry = json.loads(line)
                reply = Reply.from_dict(entry)
                self._replies.setdefault(entry["trial"], {})[entry["sample"]] = reply
            except (KeyError, TypeError, ValueError) as error:
                problem = f"{self._path}, line {number}, is not a reply ({error})"
                raise VptError(problem, FIX) from error
        return data.rfind(b"\n") + 1


def _parse(line: bytes) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return None
