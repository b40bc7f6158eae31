"""Names of files that are not UTF-8, which Python takes and others do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def readable(text: str) -> str:
    """``text`` for a file that others read: a question mark for what is not UTF-8 in a name."""
    return text.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """A name of the file ``path`` within the block, for libraries that take UTF-8 alone.

    Where its folder's is not, Linux gives it another one: that of an open handle. Raises OSError
    where the folder cannot be opened.
    """
    name = str(path)
    if readable(name) == name:
        yield name
        return
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
