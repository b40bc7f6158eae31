"""The id by which a request is found again: in its reply, in the access log, in the server's."""

from __future__ import annotations

from contextvars import ContextVar

_id: ContextVar[str] = ContextVar("vpt_edge_request_id", default="")


def set_request_id(text: str) -> None:
    """That of the request which the running task answers, and the tasks that it starts."""
    _id.set(text)


def request_id() -> str:
    """Empty where no request is answered."""
    return _id.get()
