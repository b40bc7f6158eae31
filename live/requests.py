"""What somebody asks a watch, besides what its schedule does."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from vpt_edge.runtime.errors import PromptError

if TYPE_CHECKING:
    from vpt_edge.live.frame import Frame
    from vpt_edge.live.seen import Failure, Seen

Reply: TypeAlias = "Callable[[Seen | Failure], object]"

SIZE = 16  # requests that wait
LONGEST = 4096  # characters of a question


def ignore(result: Seen | Failure) -> None:
    """The reply to one who does not wait for it."""


@dataclass(frozen=True)
class Request:
    """``question``: None for those of the watch. ``time``: on the monotonic clock, when it came.
    ``reply`` is given what becomes of it, for each source: a ``Seen`` for each question, or a
    ``Failure``.

    Raises PromptError for a question that cannot be one.
    """

    question: str | None = None
    time: float = field(default_factory=time.monotonic)
    reply: Reply = field(default=ignore, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.question is None:
            return
        if not isinstance(self.question, str):
            name = type(self.question).__name__
            raise PromptError(f"the question is {name}, expected text, or None for the given ones")
        if not self.question.strip():
            raise PromptError("the question is empty", "leave it out for the given ones")
        if len(self.question) > LONGEST:
            length = len(self.question)
            raise PromptError(f"the question has {length} characters, expected up to {LONGEST}")


class Requests:
    """Those that wait for a frame of one source, at most SIZE: another one is dropped.

    ``count`` of all that came, ``dropped`` of them; to be used from any thread.
    """

    def __init__(self) -> None:
        self.count = 0
        self.dropped = 0
        self._lock = threading.Lock()
        self._waiting: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: Request) -> bool:
        """Whether there is room for it."""
        with self._lock:
            self.count += 1
            if len(self._waiting) == SIZE:
                self.dropped += 1
                return False
            self._waiting.append(request)
            return True

    def take(self, frame: Frame) -> Request | None:
        """The oldest, unless ``frame`` was captured before it came."""
        with self._lock:
            if not self._waiting or frame.monotonic < self._waiting[0].time:
                return None
            return self._waiting.popleft()
