"""A watch, for those who ask it over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vpt_edge.live.health import find_problems
from vpt_edge.live.seen import Seen, isoformat
from vpt_edge.runtime.errors import PromptError
from vpt_edge.server.errors import RequestError
from vpt_edge.server.replies import Replies
from vpt_edge.server.source_metrics import SourceStatus
from vpt_edge.server.source_names import name_sources
from vpt_edge.server.worker import stopping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.live.health import Health
    from vpt_edge.live.watch import Watch
    from vpt_edge.server.replies import Result

PATIENCE = 60.0  # seconds in which somebody waits for answers
LOADING = "the model is being loaded"


class WatchService:
    """What is asked of a watch, and how it goes by its ``health``.

    ``silence``: for how many seconds it, and each camera, may be silent. ``on_request``: whether
    it may be asked.
    """

    def __init__(self, health: Health, silence: float, on_request: bool) -> None:
        self._health = health
        self._silence = silence
        self._on_request = on_request
        self._answers: Watch | None = None
        self._questions: Sequence[str] = ()
        self._waiting = set[Replies]()
        self._is_closed = False

    def open(self, answers: Watch, questions: Sequence[str]) -> None:
        """From now on there is a watch of ``questions``."""
        self._questions = questions
        self._answers = answers

    def close(self) -> None:
        """There is none any more; from any thread."""
        self._is_closed = True
        for replies in list(self._waiting):
            replies.end()

    async def ask(self, question: str | None, wait: bool) -> dict[str, Any]:
        """The answers, or without ``wait`` only of how many sources they will come.

        ``question``: None for those of the watch. Raises RequestError for what is not asked, and
        where no answer comes in time.
        """
        answers = self._open_watch()
        count = len(self._questions) if question is None else 1
        replies = Replies(count)
        self._waiting.add(replies)
        try:
            sources = self._put(answers, question, replies)
            if not wait:
                return {"sources": sources}
            results = await replies.collect(sources, PATIENCE)
        finally:
            self._waiting.discard(replies)
        return self._describe(results, sources * count)

    def _open_watch(self) -> Watch:
        if self._is_closed:
            raise stopping()
        if not self._on_request:
            fix = "start vpt-watch with --on-request"
            raise RequestError(409, "not_on_request", "this watch is not to be asked", fix)
        if self._answers is None:
            raise RequestError(503, "loading", LOADING, "ask again later", retry_after=2.0)
        return self._answers

    def _put(self, answers: Watch, question: str | None, replies: Replies) -> int:
        """How many sources will answer."""
        try:
            sources = answers.ask(question, replies.put)
        except PromptError as error:
            raise RequestError(
                400, "invalid_value", error.problem, error.fix, param="question"
            ) from error
        if not sources:
            problem = "no more requests can wait"
            raise RequestError(429, "queue_full", problem, "ask again later", retry_after=5.0)
        return sources

    def _describe(self, results: Sequence[Result], expected: int) -> dict[str, Any]:
        if not results and self._is_closed:
            raise stopping()
        if not results:
            problem = f"no answer came within {PATIENCE:g} seconds"
            fix = "look at GET /health; an answer that comes later goes where all go"
            raise RequestError(504, "no_answer", problem, fix)
        rows = [describe_result(result) for result in results]
        return {"answers": rows, "missing": expected - len(rows)}

    def find_problems(self) -> list[str]:
        """What is wrong with it, as ``vpt-watch --check`` says; empty where nothing is."""
        if self._is_closed:
            return ["the watch ends"]
        if self._health.status is None:
            return [LOADING]
        return find_problems(self._health.status, self._silence)

    def statuses(self) -> list[SourceStatus]:
        """For the metrics."""
        status = self._health.status
        if self._answers is None or status is None:
            return []
        counts = self._answers.counts
        names = name_sources([each.source for each in counts])
        statuses = []
        for name, each, row in zip(names, counts, status["sources"], strict=True):
            age = None
            if row["last_frame"] is not None:
                age = time.monotonic() - row["last_frame"]["monotonic"]
            statuses.append(SourceStatus(name, row["state"] == "live", age, each))
        return statuses


def describe_result(result: Result) -> dict[str, Any]:
    """A line of ``vpt-watch --jsonl``, or why there is none."""
    if isinstance(result, Seen):
        return result.to_dict()
    return {
        "time": isoformat(result.frame.time),
        "source": result.frame.source,
        "frame": result.frame.number,
        "error": str(result.error),
    }
