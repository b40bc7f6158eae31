"""One question, as the metrics and the access log see it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vpt_edge.runtime.result import Looked
from vpt_edge.server.chat_reply import usage
from vpt_edge.server.plain_answer import PlainAnswer

if TYPE_CHECKING:
    from vpt_edge.server.metrics import Metrics
    from vpt_edge.server.plain_answer import PlainEvent
    from vpt_edge.server.request_record import RequestRecord

ABORT = "abort"  # vLLM's word for a request whose client went away
LONGEST = 4096  # characters of a question or an answer in the access log


class Observation:
    """Follows a question from when it begins to wait; times are on the monotonic clock.

    The pipeline's own times are taken from the answer, and none is measured twice.
    """

    def __init__(self, metrics: Metrics, record: RequestRecord) -> None:
        self._metrics = metrics
        self._record = record
        self._asked = time.monotonic()
        self._started = self._asked
        self._opened = self._asked
        self._over = False

    def start(self) -> None:
        """It waits no more; in the worker's thread."""
        self._started = time.monotonic()
        seconds = self._started - self._asked
        self._metrics.queue_seconds.observe(seconds)
        self._record.queue_seconds = seconds

    def open(self) -> None:
        """Its picture is decoded; in the worker's thread."""
        self._opened = time.monotonic()

    def take(self, event: PlainEvent) -> None:
        if isinstance(event, Looked):
            self._metrics.looks.labels(event.kind).inc()
        elif isinstance(event, PlainAnswer):
            self._finish(event)

    def _finish(self, answer: PlainAnswer) -> None:
        self._over = True
        metrics = self._metrics
        metrics.requests.labels(answer.finish_reason).inc()
        metrics.request_seconds.observe(time.monotonic() - self._asked)
        first = self._opened - self._asked + answer.usage.first_token_seconds[0]
        metrics.first_token_seconds.observe(first)
        metrics.stage_seconds.labels("open").observe(self._opened - self._started)
        for stage, seconds in answer.usage.seconds.items():
            if seconds and stage != "total":
                metrics.stage_seconds.labels(stage).observe(seconds)
        tokens = usage(answer)
        metrics.prompt_tokens.inc(tokens["prompt_tokens"])
        metrics.cached_tokens.inc(tokens["prompt_tokens_details"]["cached_tokens"])
        metrics.generation_tokens.inc(tokens["completion_tokens"])
        record = self._record
        record.prompt_tokens = tokens["prompt_tokens"]
        record.completion_tokens = tokens["completion_tokens"]
        record.looks = len(answer.looks)
        record.finish_reason = answer.finish_reason
        record.question = answer.question[:LONGEST]
        record.answer = answer.text[:LONGEST]

    def fail(self, code: str) -> None:
        """It is not answered; the client is told why."""
        self._over = True
        self._record.error = code

    def end(self) -> None:
        """Nothing more comes: unless it is over, nobody waits for it any more."""
        if not self._over:
            self._over = True
            self._metrics.requests.labels(ABORT).inc()
            self._record.finish_reason = ABORT
