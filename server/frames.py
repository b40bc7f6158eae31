"""The routes of what sources show."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.schema import brief
from vpt_edge.server.connection import ClientGoneError, run_while_connected
from vpt_edge.server.errors import RequestError
from vpt_edge.server.watching import VIEWERS

if TYPE_CHECKING:
    import asyncio

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from vpt_edge.server.live_source import LiveSource
    from vpt_edge.server.service import Service

HOLD = 5.0  # seconds in which a request waits for a newer frame
STEP = 1.0  # seconds after which a stream looks whether its source has ended
NUMBER = re.compile(r"[0-9]{1,15}")
NO_STORE = {"Cache-Control": "no-store"}
BOUNDARY = "frame"
STREAM_HEADERS = {
    **NO_STORE,
    "Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}",
    "X-Accel-Buffering": "no",  # nginx would wait for more
}


def frame_routes() -> list[Route]:
    return [
        Route("/sources", list_sources),
        Route("/sources/{name}/frame", show_frame),
        Route("/sources/{name}/stream.mjpg", stream_frames),
        Route("/stream.mjpg", stream_frames),
    ]


async def list_sources(request: Request) -> Response:
    """What is watched, and how it fares."""
    service: Service = request.app.state.service
    rows = [source.to_dict() for source in service.watching.sources]
    return JSONResponse({"sources": rows}, headers=NO_STORE)


async def show_frame(request: Request) -> Response:
    """A newer frame than ``after`` when there is one, or the one that has ``number``."""
    service: Service = request.app.state.service
    source = service.watching.find(request.path_params["name"])
    number = read_number(request, "number")
    after = read_number(request, "after")
    if number is not None:
        return await show_one(source, number)
    waiting = source.next_view(after, HOLD)
    view = await run_while_connected(request.receive, waiting)
    if view is None:
        return Response(status_code=204, headers=NO_STORE)
    line = json.dumps({**view.to_dict(), "state": source.state}).encode()
    body = line + b"\n" + view.jpeg
    return Response(body, headers=NO_STORE, media_type="application/octet-stream")


async def show_one(source: LiveSource, number: int) -> Response:
    """That very frame: the newest, or one that was asked about lately."""
    still = source.find(number)
    if still is None:
        problem = f"frame {number} of {source.name} is not kept any more"
        raise RequestError(404, "frame_not_found", problem)
    try:
        view = await still.view()
    except SourceError as error:
        raise RequestError(404, "frame_not_found", error.problem) from error
    return Response(view.jpeg, headers=NO_STORE, media_type="image/jpeg")


def read_number(request: Request, name: str) -> int | None:
    """A parameter of the query. Raises RequestError for what is not the number of a frame."""
    value = request.query_params.get(name)
    if value is None:
        return None
    if not NUMBER.fullmatch(value):
        problem = f"{name} is {brief(value)}, expected the number of a frame"
        raise RequestError(400, "invalid_value", problem, param=name)
    return int(value)


async def stream_frames(request: Request) -> Response:
    """Motion JPEG of the source in the path, or of the first one."""
    service: Service = request.app.state.service
    source = service.watching.find(request.path_params.get("name"))
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    return FrameStream(source, service.watching.viewers)


class FrameStream(Response):
    """Sends the frames of ``source`` until it ends, or the viewer goes.

    A viewer who is slow misses frames. Raises RequestError where ``viewers`` has no room.
    """

    def __init__(self, source: LiveSource, viewers: asyncio.Semaphore) -> None:
        super().__init__(headers=STREAM_HEADERS)
        del self.headers["content-length"]
        if viewers.locked():
            problem = f"{VIEWERS} viewers watch already"
            fix = f"GET /sources/{source.name}/frame?after=N has no such limit"
            raise RequestError(503, "too_many_viewers", problem, fix, retry_after=HOLD)
        self._source = source
        self._viewers = viewers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._viewers:
            with contextlib.suppress(ClientGoneError, OSError):
                await run_while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        start: Any = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        after = None
        while not self._source.is_over:
            view = await self._source.next_view(after, STEP)
            if view is None:
                continue
            after = view.frame.number
            part = {"type": "http.response.body", "body": wrap(view.jpeg), "more_body": True}
            await send(part)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def wrap(jpeg: bytes) -> bytes:
    """A part of the stream."""
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"
