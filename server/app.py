"""The routes, as one ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.perception import open_perception
from vpt_edge.server.access import Access
from vpt_edge.server.accounts import Accounts
from vpt_edge.server.answer_routes import answer_routes
from vpt_edge.server.completions import complete_chat
from vpt_edge.server.connection import ClientGoneError
from vpt_edge.server.error_reply import reply_with
from vpt_edge.server.errors import RequestError, as_request_error
from vpt_edge.server.frames import frame_routes
from vpt_edge.server.metrics import CONTENT_TYPE
from vpt_edge.server.ollama import ollama_routes
from vpt_edge.server.openapi import openapi_routes
from vpt_edge.server.page_routes import page_routes
from vpt_edge.server.props import show_props
from vpt_edge.server.route_path import route_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from vpt_edge.server.service import Service

STARTED = int(time.time())


def create_app(service: Service, *, load: bool = True) -> Starlette:
    """The application that answers for ``service``, which it closes when it ends itself.

    ``load``: it loads the model before it answers. Without, somebody else does so meanwhile.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if load:
            await asyncio.to_thread(service.load)
        service.watching.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.close)

    handlers: dict[Any, Any] = {
        VptError: reply_error,
        Exception: reply_error,
        HTTPException: reply_http_error,
        ClientGoneError: reply_to_nobody,
    }
    app = Starlette(
        routes=routes(),
        middleware=[
            Middleware(Accounts, metrics=service.metrics, log=service.access_log),
            Middleware(Access, settings=service.settings),
        ],
        exception_handlers=handlers,
        lifespan=lifespan,
    )
    app.state.service = service
    return app


def routes() -> list[Route]:
    """What OpenAI's clients call, with and without /v1, ollama's, and what the page is made of."""
    table: list[Route] = [
        Route("/health", report_health),
        Route("/readyz", report_health),  # as LocalAI's clients ask, and Kubernetes
        Route("/props", show_props),
        Route("/metrics", report_metrics),
        *page_routes(),
        *answer_routes(),
        *frame_routes(),
    ]
    for prefix in ("/v1", ""):
        table += [
            Route(f"{prefix}/models", list_models),
            Route(f"{prefix}/models/{{model:path}}", show_model),  # a name may hold a /
            Route(f"{prefix}/chat/completions", complete_chat, methods=["POST"]),
        ]
    return [*table, *ollama_routes(), *openapi_routes()]


async def report_health(request: Request) -> Response:
    """200 when questions are answered, 503 before and after, and where that hangs."""
    service: Service = request.app.state.service
    if service.problem is not None:
        return JSONResponse({"status": "unwell", "problems": [service.problem]}, 503)
    status = 503
    if service.state == "ready":
        status = 200
    return JSONResponse({"status": service.state}, status)


async def report_metrics(request: Request) -> Response:
    """What is counted, for Prometheus."""
    service: Service = request.app.state.service
    return Response(service.metrics.render(), media_type=CONTENT_TYPE)


async def list_models(request: Request) -> Response:
    service: Service = request.app.state.service
    return JSONResponse({"object": "list", "data": [describe_model(service)]})


async def show_model(request: Request) -> Response:
    service: Service = request.app.state.service
    name = request.path_params["model"]
    if not name:
        return await list_models(request)
    if name != service.settings.model:
        problem = f"there is no model {name!r}, this server has {service.settings.model!r}"
        raise RequestError(404, "model_not_found", problem, param="model")
    return JSONResponse(describe_model(service))


def describe_model(service: Service) -> dict[str, Any]:
    """The model in OpenAI's shape, with what llama.cpp's and vLLM's clients look for."""
    manifest = service.pipeline.bundle.manifest
    capacity = manifest.cache.capacity
    perception = open_perception(manifest)
    return {
        "id": service.settings.model,
        "object": "model",
        "created": STARTED,
        "owned_by": "vpt-edge",
        "max_model_len": capacity,
        "aliases": [],
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        "meta": {"n_ctx": capacity},
        "vpt": {
            "perception": list(perception.modes),
            "max_looks": perception.most_looks,
            "max_images": perception.most_pictures,
        },
    }


async def reply_error(request: Request, error: Exception) -> Response:
    return reply_with(as_request_error(error), route_path(request.scope))


async def reply_http_error(request: Request, error: HTTPException) -> Response:
    path = route_path(request.scope)  # a URL would be made of what the client calls this server
    problem = f"{request.method} {path}: {error.detail}"
    failure = RequestError(error.status_code, "not_found", problem)
    if error.status_code == 405:
        failure.code = "method_not_allowed"
    reply = reply_with(failure, path)
    reply.headers.update(error.headers or {})
    return reply


async def reply_to_nobody(request: Request, error: ClientGoneError) -> Response:
    return Response(status_code=499)  # as nginx logs it
