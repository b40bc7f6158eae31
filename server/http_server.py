"""uvicorn, as this server wants it: connections bounded in time and number, and an end in time."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn

from vpt_edge.server.http_connection import HttpConnection, close_idle
from vpt_edge.server.listening_sockets import BACKLOG

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from vpt_edge.server.settings import Settings

HEAD = 16384  # bytes of a request's head
ABANDONED = 2.0  # seconds beyond the grace time, for the last words to a client
TICKS = 5  # of uvicorn's, ten a second, between two looks at the connections


class HttpServer(uvicorn.Server):
    """Answers with ``app`` at sockets that listen. ``answers`` is set when it does; ``beat`` is
    called twice a second meanwhile.
    """

    def __init__(self, app: ASGIApp, settings: Settings, context: ssl.SSLContext | None) -> None:
        protocol = type("Connection", (HttpConnection,), {"settings": settings})
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",  # errors of the application are logged by Access
            access_log=False,
            server_header=False,
            proxy_headers=False,  # every client could call itself another one
            h11_max_incomplete_event_size=HEAD,
            timeout_graceful_shutdown=settings.grace_seconds + ABANDONED,  # type: ignore[arg-type]
        )
        super().__init__(config)
        self.answers = threading.Event()
        self.beat: Callable[[], object] = lambda: None
        self._settings = settings
        self._context = context

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise RuntimeError("the application does not start")
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if self._context is not None:
            options["ssl_handshake_timeout"] = self._settings.header_seconds
        self.servers = []
        for each in sockets or []:
            server = await loop.create_server(
                self._connect, sock=each, ssl=self._context, backlog=BACKLOG, **options
            )
            self.servers.append(server)
        self.started = True
        self.answers.set()

    def _connect(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            self._sweep()
            self.beat()
        return await super().on_tick(counter)

    def _sweep(self) -> None:
        now = time.monotonic()
        connections = list(self.server_state.connections)
        for connection in connections:
            if isinstance(connection, HttpConnection):
                connection.sweep(now)
        close_idle(connections, self._settings.max_connections)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
