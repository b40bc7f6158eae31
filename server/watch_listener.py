"""The server of a watch, beside its work."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from vpt_edge.server.http_server import HttpServer
from vpt_edge.server.listening_sockets import close_sockets, open_sockets
from vpt_edge.server.settings import Settings
from vpt_edge.server.watch_app import create_watch_app

if TYPE_CHECKING:
    from vpt_edge.server.watch_service import WatchService

GRACE = 1.0  # seconds for replies on their way, when the watch ends
END = 5.0  # seconds until the thread is left behind


class WatchListener:
    """Answers for ``service`` at ``host`` and ``port``, 0 for one that is free, in a thread of its
    own, until ``close``. Raises VptError where it cannot listen.
    """

    def __init__(self, service: WatchService, host: str, port: int) -> None:
        self._service = service
        self._sockets = open_sockets(host, port)
        self.port = int(self._sockets[0].getsockname()[1])
        settings = Settings(model="vpt-watch", grace_seconds=GRACE)
        self._server = HttpServer(create_watch_app(service, settings), settings, None)
        self._thread = threading.Thread(target=self._run, name="vpt-edge-listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; who waits for an answer is told so."""
        self._service.close()
        self._server.should_exit = True
        self._thread.join(END)

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(self._sockets))
        finally:
            close_sockets(self._sockets)
