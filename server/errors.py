"""What a client is told when its request is not answered."""

from __future__ import annotations

import logging
from typing import Any

from vpt_edge.runtime.errors import VptError
from vpt_edge.server.request_id import request_id

INVALID = "invalid_request_error"
INTERNAL = "internal_error"  # what the client did not cause
ASK_OPERATOR = "its log says why"

log = logging.getLogger("vpt_edge.server")


class RequestError(VptError):
    """A request that gets an error instead of an answer.

    ``status``: of HTTP; ``code``: OpenAI's word for it, or ours; ``param``: the field that is
    wrong; ``retry_after``: seconds after which it may go better.
    """

    def __init__(
        self,
        status: int,
        code: str,
        problem: str,
        fix: str = "",
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem, fix)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """OpenAI's ``type`` of the error."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        if self.status >= 500:
            return "server_error"
        return INVALID

    def to_dict(self) -> dict[str, Any]:
        """The body of the reply, in OpenAI's shape."""
        error = {
            "message": str(self),
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}

    def to_ollama_dict(self) -> dict[str, Any]:
        """The body of the reply, in ollama's shape."""
        return {"error": str(self)}


def as_request_error(error: Exception) -> RequestError:
    """``error`` as what a client is told.

    What it did not cause is an error of the server, whose words are not for others: they name files
    and machines. The log has them, with the request's id: a VptError's from here, and those of
    others, which are raised on, with where it was.
    """
    if isinstance(error, RequestError):
        return error
    number = request_id()
    if isinstance(error, VptError):
        log.error("request %s failed: %s", number, error)
    return RequestError(500, INTERNAL, f"the server failed at the request {number}", ASK_OPERATOR)


def error_body(path: str, error: RequestError) -> dict[str, Any]:
    """The body of a reply to a request of ``path``: below /api/ in ollama's shape."""
    if path.startswith("/api/"):
        return error.to_ollama_dict()
    return error.to_dict()
