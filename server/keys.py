"""The keys that clients show."""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from vpt_edge.live.secret_file import read_secret
from vpt_edge.runtime.errors import VptError

LONGEST_FILE = 1 << 20  # bytes
KEY = re.compile(r"[!-~]{1,512}")  # what a header can carry, without spaces


class Keys:
    """The keys of a server; they are held as hashes."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = [_hash(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def find(self, authorization: str) -> int | None:
        """The place of the key in the header ``Authorization``: None for one that is not known.

        Every key is compared, each in constant time.
        """
        scheme, _, key = authorization.partition(" ")
        shown = _hash(key.strip().encode("latin-1", "replace"))
        place = None
        for index, known in enumerate(self._hashes):
            if hmac.compare_digest(shown, known) and scheme.lower() == "bearer":
                place = index
        return place


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; what begins with # is a comment.

    Raises VptError, which names the file and its line and never quotes it.
    """
    fix = f"write one key a line into {path}, such as openssl rand -hex 32 prints"
    lines = read_secret(path, "the keys", LONGEST_FILE, fix)
    keys = dict[str, None]()
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not KEY.fullmatch(key):
            problem = f"line {number} of {path} is not a key"
            raise VptError(f"{problem}: expected up to 512 letters of ASCII without a space", fix)
        keys[key] = None
    if not keys:
        raise VptError(f"{path} has no key", fix)
    return tuple(keys)


def find_readers(path: Path) -> str | None:
    """What is wrong with who may read the file, as one line; None where nothing is."""
    if path.stat().st_mode & stat.S_IROTH:
        return f"every user of this machine can read the keys in {path}; chmod 600 {path}"
    return None
