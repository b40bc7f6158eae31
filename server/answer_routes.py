"""The routes that show an answer again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vpt_edge.server.chat_reply import describe, usage
from vpt_edge.server.errors import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request

    from vpt_edge.server.chat_reply import ChatReply
    from vpt_edge.server.chat_request import ChatRequest
    from vpt_edge.server.history import Entry, History
    from vpt_edge.server.plain_answer import PlainAnswer
    from vpt_edge.server.service import Service

HEADERS = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
PICTURE_HEADERS = {**HEADERS, "Content-Security-Policy": "sandbox; default-src 'none'"}


def answer_routes() -> list[Route]:
    return [
        Route("/answers/{id}", show_answer),
        Route("/answers/{id}/picture", show_picture),
    ]


def store_answer(
    history: History,
    asked: ChatRequest,
    answer: PlainAnswer,
    reply: ChatReply,
    details: dict[str, Any],
) -> dict[str, Any]:
    """Keep the answer, with ``details`` in its block ``vpt``, where the client wants it stored;
    returns what that block then says of it.
    """
    if answer.picture is None:
        return {}
    conversation = asked.conversation
    entry = {
        "object": "vpt.answer",
        "created": reply.created,
        "model": reply.model,
        "history": [list(exchange) for exchange in conversation.history],
        "question": conversation.question,
        "perception": asked.options["perception"],
        "text": answer.text,
        "usage": usage(answer),
        "vpt": {**describe(answer), **details},
    }
    return {"id": history.keep(entry, answer.picture)}


async def show_answer(request: Request) -> Response:
    """The answer as JSON."""
    return JSONResponse(find_entry(request).answer, headers=HEADERS)


async def show_picture(request: Request) -> Response:
    """The picture that it is about, as JPEG."""
    picture = find_entry(request).picture
    return Response(picture, media_type="image/jpeg", headers=PICTURE_HEADERS)


def find_entry(request: Request) -> Entry:
    """The answer that the request names. Raises RequestError where there is none."""
    service: Service = request.app.state.service
    entry = service.history.get(request.path_params["id"])
    if entry is None:
        problem = "there is no such answer, or no longer: the server keeps the last ones in memory"
        raise RequestError(404, "answer_not_found", problem, "ask again")
    return entry
