"""Lines of a pipe or a terminal, as they are written."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

SIZE = 4096  # bytes that are read at once


class LineReader:
    """Gives each line of the open file ``descriptor`` to ``take``, and calls ``end`` behind the
    last, in a thread that nobody has to wait for.

    Of a line that is longer than ``limit`` bytes it gives ``limit`` + 1.
    """

    def __init__(
        self,
        descriptor: int,
        limit: int,
        take: Callable[[bytes], object],
        end: Callable[[], object],
    ) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._take = take
        self._end = end
        threading.Thread(target=self._run, name="vpt-edge-lines", daemon=True).start()

    def _run(self) -> None:
        rest = b""
        while data := self._read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(line[: self._limit + 1])
            rest = rest[: self._limit + 1]
        if rest:
            self._take(rest)
        self._end()

    def _read(self) -> bytes:
        """Not through sys.stdin: a process that ends would wait for its lock."""
        try:
            return os.read(self._descriptor, SIZE)
        except OSError:  # such as a terminal that is gone
            return b""
