"""An error as a reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from vpt_edge.server.errors import error_body
from vpt_edge.server.request_record import current_record

if TYPE_CHECKING:
    from vpt_edge.server.errors import RequestError


UNCLEAR = "invalid_request"  # nobody can tell where it ends, and another one begins


def reply_with(error: RequestError, path: str) -> JSONResponse:
    """The reply to a request for ``path``: in Ollama's shape below /api, in OpenAI's elsewhere.

    It is noted in the request's record.
    """
    current_record().error = error.code
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.code == UNCLEAR:
        headers["Connection"] = "close"
    return JSONResponse(error_body(path, error), error.status, headers)
