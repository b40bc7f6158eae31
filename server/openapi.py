"""The description of the API, at /openapi.json."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vpt_edge.server.openapi_schemas import COUNT, SCHEMAS, TEXT, ref, shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

JSON = "application/json"
EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
ANYTHING: dict[str, Any] = {"type": "object"}
PARAMETER = re.compile(r"\{(\w+)\}")
Operation = dict[str, Any]


def content(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": schema}}


def respond(words: str, replies: dict[str, Any] | None = None) -> dict[str, Any]:
    if replies is None:
        return {"description": words}
    return {"description": words, "content": replies}


def get(summary: str, kind: str = JSON, schema: dict[str, Any] = ANYTHING) -> Operation:
    """What is read: ``kind`` is the reply's media type."""
    return {"summary": summary, "responses": {"200": respond("OK", content(kind, schema))}}


def post(summary: str, body: str, reply: dict[str, Any], stream: str | None = None) -> Operation:
    """What is asked: ``stream`` is the media type of a reply in pieces."""
    replies = content(JSON, reply)
    if stream is not None:
        replies |= content(stream, {})
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": content(JSON, ref(body))},
        "responses": {"200": respond("The answer, at once or in pieces", replies)},
    }


def query(operation: Operation, **schemas: dict[str, Any]) -> Operation:
    """``operation`` with parameters of the query."""
    parameters = []
    for name, schema in schemas.items():
        parameters.append({"name": name, "in": "query", "schema": schema})
    return {**operation, "parameters": parameters}


MODELS = get("The model", schema=shape("data", object=TEXT))
A_MODEL = get("The model, if that is its name", schema=ref("Model"))
CHAT = post("Answer a question about a picture", "ChatRequest", ref("Completion"), EVENTS)
HEALTH = {
    "summary": "Whether questions are answered",
    "responses": {
        "200": respond("They are", content(JSON, shape("status", status=TEXT))),
        "503": respond("Not yet, or not any more", content(JSON, shape("status", status=TEXT))),
    },
}
FRAME = query(
    get("A line of JSON and the JPEG of a newer frame", "application/octet-stream", {}),
    after=COUNT,
    number=COUNT,
)
FRAME["responses"]["200"]["content"] |= content("image/jpeg", {})
FRAME["responses"]["204"] = respond("There is none yet")
MOTION = get("The frames of a source as motion JPEG", "multipart/x-mixed-replace", {})
PAGE = get("The page", "text/html", {})
PAGE_FILE = get("A file of the page", "*/*", {})
PAGE_FILE["responses"]["304"] = respond("The client has it")
PAGE["responses"]["304"] = respond("The client has it")
OPERATIONS: dict[str, dict[str, Operation]] = {
    "/": {"get": PAGE},
    "/page/{name}": {"get": PAGE_FILE},
    "/answers/{id}": {"get": get("An answer that was to be stored")},
    "/answers/{id}/picture": {"get": get("The picture it is about", "image/jpeg", {})},
    "/health": {"get": HEALTH},
    "/readyz": {"get": HEALTH},
    "/metrics": {"get": get("Counts for Prometheus", "text/plain", TEXT)},
    "/openapi.json": {"get": get("This description")},
    "/props": {"get": query(get("The server, as llama.cpp describes one"), model=TEXT)},
    "/v1/models": {"get": MODELS},
    "/models": {"get": MODELS},
    "/v1/models/{model}": {"get": A_MODEL},
    "/models/{model}": {"get": A_MODEL},
    "/v1/chat/completions": {"post": CHAT},
    "/chat/completions": {"post": CHAT},
    "/sources": {"get": get("What is watched")},
    "/sources/{name}/frame": {"get": FRAME},
    "/sources/{name}/stream.mjpg": {"get": MOTION},
    "/stream.mjpg": {"get": MOTION},
    "/api/version": {"get": get("The server's version", schema=shape("version", version=TEXT))},
    "/api/tags": {"get": get("The model", schema=ref("OllamaModels"))},
    "/api/ps": {"get": get("The model, which is in memory", schema=ref("OllamaModels"))},
    "/api/show": {"post": post("What the model is", "OllamaShow", ANYTHING)},
    "/api/chat": {"post": post("Answer the last message", "OllamaChat", ref("OllamaReply"), LINES)},
    "/api/generate": {"post": post("Answer a prompt", "OllamaGenerate", ref("OllamaReply"), LINES)},
}


def openapi_routes() -> list[Route]:
    return [Route("/openapi.json", show_description)]


async def show_description(request: Request) -> Response:
    return JSONResponse(describe_api(request.app.routes))


def describe_api(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI document of ``routes``. Raises KeyError for one that nobody has described."""
    paths = dict[str, Any]()
    for route in routes:
        assert isinstance(route, Route)
        path = route.path_format
        operations = OPERATIONS[path]
        paths[path] = {
            method: complete(operation, path, method) for method, operation in operations.items()
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vpt-edge",
            "version": version("vpt-edge"),
            "description": "Questions about pictures, for OpenAI's and ollama's clients. Fields "
            "that are not named here are refused, but for those that change nothing.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def complete(operation: Operation, path: str, method: str) -> Operation:
    """``operation`` with its id, the parameters in ``path``, and the errors that all have."""
    parameters = list(operation.get("parameters", ()))
    for name in PARAMETER.findall(path):
        parameters.append({"name": name, "in": "path", "required": True, "schema": TEXT})
    error = ref("Error")
    if path.startswith("/api/"):
        error = ref("OllamaError")
    errors = {"default": respond("Why it is not answered", content(JSON, error))}
    words = re.findall(r"\w+", path)
    return {
        **operation,
        "operationId": "_".join([method, *words]),
        "parameters": parameters,
        "responses": {**operation["responses"], **errors},
    }
