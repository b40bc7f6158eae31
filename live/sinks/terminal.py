"""A line an answer, for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vpt_edge.live.seen import Seen
from vpt_edge.runtime.errors import printable

if TYPE_CHECKING:
    from typing import TextIO

    from vpt_edge.live.sinks.sink import Item


class Terminal:
    """Prints to ``stream``: time, source and question where they may be several, answer, age."""

    wants = (Seen,)
    dropped = 0

    def __init__(self, stream: TextIO, sources: int = 1, questions: int = 1) -> None:
        self._stream = stream
        self._with_source = sources > 1
        self._with_question = questions > 1

    def put(self, item: Item) -> None:
        assert isinstance(item, Seen)
        print(printable(self.format(item)), file=self._stream, flush=True)

    def format(self, seen: Seen) -> str:
        """As ``14:05:09  Is the gate open?  yes  (0.8 s)``."""
        parts = [time.strftime("%H:%M:%S", time.localtime(seen.frame.time))]
        if self._with_source:
            parts.append(seen.frame.source)
        if self._with_question or seen.once:
            parts.append(seen.question)
        parts.append(seen.answer.text)
        parts.append(f"({seen.age_at_end:.1f} s)")
        return "  ".join(" ".join(part.split()) for part in parts)

    def close(self) -> None:
        """Nothing is left: every line was flushed."""
