"""A source that is watched, and what became of its frames."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vpt_edge.live.last_picture import LastPicture
from vpt_edge.live.recent import RecentFrames
from vpt_edge.live.requests import Reply, Requests, ignore
from vpt_edge.live.seen import StateChange
from vpt_edge.runtime.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vpt_edge.live.frame import Frame
    from vpt_edge.live.recent import Span
    from vpt_edge.live.requests import Request
    from vpt_edge.live.schedule import Schedule
    from vpt_edge.live.source import Source, State
    from vpt_edge.runtime.frames import Frames


@dataclass(frozen=True)
class WatchCounts:
    """What became of the ``frames`` of a source.

    ``asked``: asked about, ``failures`` of them in vain. Not asked about: ``busy``, newer ones came
    while an answer was computed; ``every``, too soon; ``gate``, nothing new. ``reconnects``: how
    often it came back. ``requests``: that came from somebody, ``unanswered`` of them for want of
    room, or of a frame so far. ``undecoded``: as ``Counts`` has it.
    """

    source: str
    frames: int
    asked: int
    failures: int
    busy: int
    every: int
    gate: int
    reconnects: int
    requests: int = 0
    unanswered: int = 0
    undecoded: int = 0


class Query(NamedTuple):
    """A question for a frame; ``once``: because somebody asked for this one alone. ``reply`` is
    given the answer.
    """

    question: str
    once: bool = False
    reply: Reply = ignore


class Subject:
    """One source with its schedule, and the frames of a ``span`` where questions are about such.

    ``reuse``: the threshold of its ``LastPicture``. Raises PromptError where it has both.
    """

    def __init__(
        self,
        source: Source,
        schedule: Schedule,
        span: Span | None = None,
        reuse: float | None = None,
    ) -> None:
        if span is not None and reuse is not None:
            problem = "reuse is about one frame, and span asks about several"
            raise PromptError(problem, "leave out one of the two")
        self.source = source
        self.last = LastPicture(reuse)
        self.requests = Requests()
        self.ended = False
        self._schedule = schedule
        self._asked = 0
        self._failures = 0
        self._objections = Counter[str]()
        self._state: State | None = None
        self._losses = 0
        self._passed = 0  # while an answer was computed
        self._recent: RecentFrames | None = None
        if span is not None:
            self._recent = RecentFrames(span)

    def poll(self) -> Frame | None:
        """The source's next frame, if there is one; ``ended`` says that none will come."""
        frame = self.source.poll()
        if frame is None and self.source.state == "ended":
            frame = self.source.poll()  # what came between the two
            self.ended = frame is None
        if frame is not None and self._recent is not None:
            self._recent.add(frame)
        return frame

    def let_pass(self) -> None:
        """Keep the newest frame of a live source for a later question, while one is answered."""
        if self._recent is None or not self.source.live:
            return
        frame = self.source.poll()
        if frame is not None:
            self._passed += 1
            self._recent.add(frame)

    def show(self, frame: Frame) -> NDArray[np.uint8] | Frames:
        """What a question about ``frame`` shows."""
        if self._recent is None:
            return frame.pixels
        return self._recent.up_to(frame)

    def choose(
        self, frame: Frame, questions: Sequence[str], request: Request | None
    ) -> list[Query]:
        """What ``frame`` is asked: what somebody wants to know, and ``questions`` if it is due.

        It is counted either way.
        """
        queries = []
        reply: Reply = ignore
        if request is not None and request.question is not None:
            queries.append(Query(request.question, once=True, reply=request.reply))
        elif request is not None:
            reply = request.reply
        is_due = self._is_due(frame, request)
        if is_due:
            queries += [Query(question, reply=reply) for question in questions]
        if queries:
            self._asked += 1
        if is_due:
            self._schedule.ask(frame)
        return queries

    def _is_due(self, frame: Frame, request: Request | None) -> bool:
        if request is not None and request.question is None:
            return True
        objection = self._schedule.find_objection(frame)
        if objection is not None and request is None:
            self._objections[objection] += 1
        return objection is None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a frame that may still come."""
        return len(self.requests) > 0 and not self.ended

    def fail(self) -> None:
        """The last frame that was due could not be asked about."""
        self._failures += 1
        self._schedule.fail()

    def state_changes(self) -> Iterator[StateChange]:
        """What is new since the last call; an outage that is over again, too."""
        state = self.source.state
        losses = self.source.counts.losses
        if losses > self._losses and state == self._state:
            yield self._change("lost")
        if state != self._state or losses > self._losses:
            yield self._change(state)
        self._state = state
        self._losses = losses

    def _change(self, state: State) -> StateChange:
        problem = self.source.problem
        if state in ("live", "ended"):
            problem = None
        return StateChange(self.source.name, state, time.time(), problem)

    @property
    def counts(self) -> WatchCounts:
        counts = self.source.counts
        return WatchCounts(
            source=self.source.name,
            frames=counts.frames,
            asked=self._asked,
            failures=self._failures,
            busy=counts.dropped + self._passed,
            every=self._objections["every"],
            gate=self._objections["gate"],
            reconnects=max(0, counts.opens - 1),
            requests=self.requests.count,
            unanswered=self.requests.dropped + len(self.requests),
            undecoded=counts.undecoded,
        )
