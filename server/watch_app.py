"""The routes of a watch, as an ASGI application of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vpt_edge.runtime.errors import VptError
from vpt_edge.server.access import Access
from vpt_edge.server.app import reply_error, reply_http_error, reply_to_nobody
from vpt_edge.server.body import read_json
from vpt_edge.server.connection import ClientGoneError, run_while_connected
from vpt_edge.server.fields import Fields
from vpt_edge.server.source_metrics import SourceCollector

if TYPE_CHECKING:
    from starlette.requests import Request

    from vpt_edge.server.settings import Settings
    from vpt_edge.server.watch_service import WatchService

FIELDS = {"question", "wait"}
NO_STORE = {"Cache-Control": "no-store"}


def create_watch_app(service: WatchService, settings: Settings) -> Starlette:
    """POST /ask, GET /health and GET /metrics for ``service``."""
    handlers: dict[Any, Any] = {
        VptError: reply_error,
        HTTPException: reply_http_error,
        ClientGoneError: reply_to_nobody,
    }
    registry = CollectorRegistry()
    registry.register(SourceCollector(service.statuses))
    app = Starlette(
        routes=[
            Route("/ask", ask, methods=["POST"]),
            Route("/health", report_health),
            Route("/metrics", report_metrics),
        ],
        middleware=[Middleware(Access, settings=settings)],
        exception_handlers=handlers,
    )
    app.state.watch = service
    app.state.settings = settings
    app.state.registry = registry
    return app


async def ask(request: Request) -> Response:
    """200 with the answers, or 202 at once where "wait" is false."""
    service: WatchService = request.app.state.watch
    fields = Fields(await read_json(request, request.app.state.settings))
    fields.refuse_others(FIELDS, {})
    wait = True
    if fields.get("wait") is not None:
        wait = fields.flag("wait")
    asking = service.ask(fields.text("question"), wait)
    reply = await run_while_connected(request.receive, asking)
    status = 200 if wait else 202
    return JSONResponse(reply, status, NO_STORE)


async def report_health(request: Request) -> Response:
    """503 with what is wrong, as ``vpt-watch --check`` says it."""
    problems = request.app.state.watch.find_problems()
    if problems:
        return JSONResponse({"status": "unwell", "problems": problems}, 503, NO_STORE)
    return JSONResponse({"status": "ok"}, headers=NO_STORE)


async def report_metrics(request: Request) -> Response:
    """For Prometheus."""
    data = generate_latest(request.app.state.registry)
    return Response(data, headers=NO_STORE, media_type=CONTENT_TYPE_LATEST)
