"""What is known of a request when it ends."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class RequestRecord:
    """Filled while a request is answered; ``error``: the code of what the client was told.

    The texts are kept only where the access log may hold them.
    """

    queue_seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    looks: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    question: str | None = field(default=None, repr=False)
    answer: str | None = field(default=None, repr=False)


_record: ContextVar[RequestRecord | None] = ContextVar("vpt_edge_request_record", default=None)


def begin_record() -> RequestRecord:
    """A new one, of the request that the running task answers, and the tasks that it starts."""
    record = RequestRecord()
    _record.set(record)
    return record


def current_record() -> RequestRecord:
    """That of this request; one that nobody reads where there is none."""
    record = _record.get()
    return RequestRecord() if record is None else record
