"""The routes of ollama's API, as far as clients need them that ask about pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vpt_edge.runtime.perception import open_perception
from vpt_edge.server.answer_text import AnswerText
from vpt_edge.server.ask_options import check_draft_tokens, check_prefix
from vpt_edge.server.body import read_json
from vpt_edge.server.completions import last_answer, patience
from vpt_edge.server.connection import run_while_connected
from vpt_edge.server.errors import RequestError
from vpt_edge.server.event_stream import EventStreamResponse
from vpt_edge.server.fields import Fields
from vpt_edge.server.harmless_fields import OLLAMA as HARMLESS
from vpt_edge.server.ollama_reply import OllamaReply, OllamaStream, utc
from vpt_edge.server.ollama_request import OllamaRequest, read_chat, read_generate
from vpt_edge.server.subject import open_subject

if TYPE_CHECKING:
    from starlette.requests import Request

    from vpt_edge.server.service import Service
    from vpt_edge.server.settings import Settings

Reader = Callable[[Any, "Settings"], OllamaRequest]
LATEST = "latest"
FOR_EVER = timedelta(days=36500)


def ollama_routes() -> list[Route]:
    return [
        Route("/api/version", show_version),
        Route("/api/tags", list_tags),
        Route("/api/ps", list_running),
        Route("/api/show", show_model, methods=["POST"]),
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/generate", generate, methods=["POST"]),
    ]


async def chat(request: Request) -> Response:
    """Answer the last message of a conversation."""
    return await _answer(request, read_chat, "chat")


async def generate(request: Request) -> Response:
    """Answer a prompt."""
    return await _answer(request, read_generate, "generate")


async def _answer(request: Request, read: Reader, kind: Literal["chat", "generate"]) -> Response:
    service: Service = request.app.state.service
    manifest = service.pipeline.bundle.manifest  # raises while it is loading
    perception = open_perception(manifest)
    asked = read(await read_json(request, service.settings), service.settings)
    model = check_name(asked.model, service.settings.model)
    if asked.conversation is None:
        return JSONResponse(OllamaReply(kind, model, {}).loaded())
    check_prefix(perception, asked.options, "options.assistant_prefix")
    check_draft_tokens(manifest, asked.options, "options.draft_tokens")
    passed_over = asked.conversation.passed_over
    details = {"passed_over": passed_over, "ignored": list(asked.ignored)}
    reply = OllamaReply(kind, model, details, asked.shows_thoughts)
    text = AnswerText(asked.options, perception)
    question = asked.conversation.question
    opening = open_subject(service, asked.conversation.pictures, reply.started)
    subject = await run_while_connected(request.receive, opening)
    reply = replace(reply, shot=subject.shot)
    asked = replace(asked, conversation=asked.conversation.forget_addresses())
    events = service.ask(request.state.client, subject.picture, question, asked.options)
    if not asked.stream:
        said, answer = await run_while_connected(request.receive, last_answer(events, text))
        return JSONResponse(reply.last(answer, said, answer.thoughts or ""))
    stream = EventStreamResponse(events, OllamaStream(reply, text))
    return await stream.start(request.receive, patience(subject))


def check_name(name: str | None, served: str) -> str:
    """The model's name as the client says it. Raises RequestError for another model's."""
    if name is None:
        return with_tag(served)
    if with_tag(name) != with_tag(served):
        problem = f"model {name!r} not found, this server has {with_tag(served)!r}"
        raise RequestError(404, "model_not_found", problem, param="model")
    return name


def with_tag(name: str) -> str:
    """``name`` as ollama lists it."""
    if ":" in name.rpartition("/")[2]:
        return name
    return f"{name}:{LATEST}"


async def show_version(request: Request) -> Response:
    """Of this server: ollama's own counts otherwise."""
    return JSONResponse({"version": version("vpt-edge")})


async def list_tags(request: Request) -> Response:
    service: Service = request.app.state.service
    bundle = service.pipeline.bundle
    modified = bundle.tokenizer_file.stat().st_mtime
    entry = {
        **describe_model(service),
        "modified_at": utc(datetime.fromtimestamp(modified, timezone.utc)),
    }
    return JSONResponse({"models": [entry]})


async def list_running(request: Request) -> Response:
    service: Service = request.app.state.service
    entry = {
        **describe_model(service),
        "expires_at": utc(datetime.now(timezone.utc) + FOR_EVER),
        "size_vram": 0,
        "context_length": service.pipeline.bundle.manifest.cache.capacity,
    }
    return JSONResponse({"models": [entry]})


async def show_model(request: Request) -> Response:
    service: Service = request.app.state.service
    manifest = service.pipeline.bundle.manifest
    fields = Fields(await read_json(request, service.settings))
    fields.refuse_others({"model", "name"} | HARMLESS["`/api/show`"], {"options": ({},)})
    check_name(fields.text("model") or fields.text("name"), service.settings.model)
    family = manifest.model["name"]
    reply = {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": describe_details(service),
        "model_info": {
            "general.architecture": family,
            f"{family}.context_length": manifest.cache.capacity,
            f"{family}.embedding_length": manifest.text.hidden_size,
        },
        "capabilities": ["completion", "vision"],
    }
    return JSONResponse(reply)


def describe_model(service: Service) -> dict[str, Any]:
    """The bundle as one of ollama's models; ``size`` in bytes on the disk."""
    bundle = service.pipeline.bundle
    files = bundle.manifest.files
    name = with_tag(service.settings.model)
    folder = bundle.tokenizer_file.parent
    return {
        "name": name,
        "model": name,
        "size": sum((folder / file).stat().st_size for file in files),
        "digest": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        "details": describe_details(service),
    }


def describe_details(service: Service) -> dict[str, Any]:
    manifest = service.pipeline.bundle.manifest
    family = manifest.model["name"]
    return {
        "parent_model": "",
        "format": "onnx",
        "family": family,
        "families": [family],
        "parameter_size": "",
        "quantization_level": manifest.precision,
    }
