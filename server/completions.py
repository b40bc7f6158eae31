"""The route /v1/chat/completions."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from vpt_edge.runtime.perception import open_perception
from vpt_edge.server.answer_routes import store_answer
from vpt_edge.server.answer_text import AnswerText
from vpt_edge.server.ask_options import check_draft_tokens, check_prefix
from vpt_edge.server.body import read_json
from vpt_edge.server.chat_reply import ChatReply
from vpt_edge.server.chat_request import ChatRequest, read_chat_request
from vpt_edge.server.chat_stream import ChatStream
from vpt_edge.server.connection import run_while_connected
from vpt_edge.server.errors import RequestError
from vpt_edge.server.event_stream import EventStreamResponse
from vpt_edge.server.plain_answer import PlainAnswer
from vpt_edge.server.subject import Subject, open_subject

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

    from vpt_edge.server.plain_answer import PlainEvent
    from vpt_edge.server.service import Service

EARLY = 0.2  # seconds, after which the frame is shown that a question is about


async def complete_chat(request: Request) -> Response:
    """Answer a question about a picture, at once or as a stream of events."""
    service: Service = request.app.state.service
    manifest = service.pipeline.bundle.manifest  # raises while it is loading
    perception = open_perception(manifest)
    arrival = time.monotonic()
    asked = read_chat_request(await read_json(request, service.settings), service.settings)
    check_model(asked.model, service.settings.model)
    check_prefix(perception, asked.options, "assistant_prefix")
    check_draft_tokens(manifest, asked.options, "draft_tokens")
    reply = ChatReply(service.settings.model)
    text = AnswerText(asked.options, perception)
    opening = open_subject(service, asked.conversation.pictures, arrival)
    subject = await run_while_connected(request.receive, opening)
    asked = replace(asked, conversation=asked.conversation.forget_addresses())
    question = asked.conversation.question
    client = request.state.client
    events = service.ask(client, subject.picture, question, asked.options, asked.store)

    def describe(answer: PlainAnswer) -> dict[str, Any]:
        return describe_request(service, asked, subject, answer, reply)

    if not asked.stream:
        said, answer = await run_while_connected(request.receive, last_answer(events, text))
        return JSONResponse(reply.completion(answer, said, **describe(answer)))
    stream = ChatStream(reply, text, asked.include_usage, describe, subject.shot)
    return await EventStreamResponse(events, stream).start(request.receive, patience(subject))


def patience(subject: Subject) -> float | None:
    """Seconds of waiting for the first event, whose error then has a status: a frame of a source is
    shown to the client while the question still waits.
    """
    if subject.shot is None:
        return None
    return EARLY


def describe_request(
    service: Service, asked: ChatRequest, subject: Subject, answer: PlainAnswer, reply: ChatReply
) -> dict[str, Any]:
    """What ``vpt`` says besides the answer, which is stored where the client wants that."""
    details = {"passed_over": asked.conversation.passed_over, **subject.conclude()}
    stored = store_answer(service.history, asked, answer, reply, details)
    return {**details, **stored}


def check_model(name: str | None, served: str) -> None:
    """Raise RequestError for another model than the one that is served."""
    if name not in (None, served):
        problem = f"there is no model {name!r}, this server has {served!r}"
        raise RequestError(404, "model_not_found", problem, param="model")


async def last_answer(
    events: AsyncGenerator[PlainEvent, None], text: AnswerText
) -> tuple[str, PlainAnswer]:
    """What the answer at the end of ``events`` says, the same as when it is streamed."""
    said = ""
    async with contextlib.aclosing(events):
        async for each in events:
            said += text.take(each)
    assert isinstance(each, PlainAnswer)
    return said, each
