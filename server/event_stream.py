"""Answers that are sent while they come, as long as the client takes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response

from vpt_edge.runtime.errors import VptError
from vpt_edge.server.connection import ClientGoneError, run_while_connected
from vpt_edge.server.errors import as_request_error
from vpt_edge.server.plain_answer import PlainAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message, Receive, Scope, Send

    from vpt_edge.server.errors import RequestError
    from vpt_edge.server.plain_answer import PlainEvent

HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would wait for more
}
SILENCE = 10.0  # seconds, after which a proxy is told that something goes on


class Renderer(Protocol):
    """An answer on the wire, in pieces that the client reads one by one."""

    media_type: str
    keep_alive: bytes

    def begin(self) -> bytes:
        """What comes before the first event."""

    def take(self, event: PlainEvent) -> bytes:
        """What ``event`` is to the client; the last one is ``PlainAnswer``."""

    def fail(self, error: RequestError) -> bytes:
        """What comes instead of the rest: the status has been sent."""


class EventStreamResponse(Response):
    """Sends ``events``, and closes them however it ends.

    An error on the way is the last thing that is sent; what is not a VptError is raised behind it.
    """

    def __init__(self, events: AsyncGenerator[PlainEvent, None], renderer: Renderer) -> None:
        super().__init__(headers=HEADERS, media_type=renderer.media_type)
        del self.headers["content-length"]
        self._events = events
        self._renderer = renderer

    async def start(self, receive: Receive, patience: float | None = None) -> EventStreamResponse:
        """Wait for the first event, at most for ``patience`` seconds.

        Raises what comes instead of it: that is a reply of its own, with its status.
        """
        self._coming = asyncio.ensure_future(anext(self._events))
        try:
            await run_while_connected(receive, asyncio.wait((self._coming,), timeout=patience))
            if self._coming.done():
                self._coming.result()
        except BaseException:
            await self._close()
            raise
        return self

    async def _close(self) -> None:
        self._coming.cancel()
        await asyncio.gather(self._coming, return_exceptions=True)
        await self._events.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with contextlib.suppress(ClientGoneError):
                await run_while_connected(receive, self._send(send))
        finally:
            await self._close()

    async def _send(self, send: Send) -> None:
        failure: Exception | None = None
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send_message(send, {"type": "http.response.start", **head})
        await send_body(send, self._renderer.begin())
        try:
            async with contextlib.aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    await send_body(send, piece)
        except ClientGoneError:
            raise
        except VptError as error:
            await send_body(send, self._renderer.fail(as_request_error(error)))
        except Exception as error:
            failure = error
            await send_body(send, self._renderer.fail(as_request_error(error)))
        await send_body(send, b"", more=False)
        if failure is not None:
            raise failure

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        while True:
            while not self._coming.done():
                await asyncio.wait((self._coming,), timeout=SILENCE)
                if not self._coming.done():
                    yield self._renderer.keep_alive
            event = self._coming.result()
            yield self._renderer.take(event)
            if isinstance(event, PlainAnswer):
                return
            self._coming = asyncio.ensure_future(anext(self._events))


async def send_body(send: Send, piece: bytes, *, more: bool = True) -> None:
    if piece or not more:
        await send_message(send, {"type": "http.response.body", "body": piece, "more_body": more})


async def send_message(send: Send, message: Message) -> None:
    """Raises ClientGoneError where nobody takes it."""
    try:
        await send(message)
    except OSError as error:
        raise ClientGoneError from error


def event(data: Any) -> bytes:
    """``data`` as one server-sent event."""
    return f"data: {json.dumps(data)}\n\n".encode()
