"""Each request, counted and written down when it has ended."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.source import shorten
from vpt_edge.server.request_record import begin_record
from vpt_edge.server.route_path import route_path

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vpt_edge.server.access_log import AccessLog
    from vpt_edge.server.metrics import Metrics

DECIMALS = 6


class Accounts:
    """Counts the requests of ``app`` in ``metrics``, and writes them into the access ``log``.

    Outermost, so that what is refused is seen as well.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: AccessLog | None) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = _Entry(scope)

        async def send_and_count(message: Message) -> None:
            entry.take(message)
            await send(message)

        try:
            await self._app(scope, receive, send_and_count)
        except Exception:
            entry.record.error = "internal_error"
            raise
        finally:
            self._end(entry)

    def _end(self, entry: _Entry) -> None:
        if entry.record.error is not None:
            self._metrics.count_error(entry.record.error)
        if self._log is not None:
            self._log.write(entry.to_dict(), entry.record)


class _Entry:
    """A request on its way."""

    def __init__(self, scope: Scope) -> None:
        self.record = begin_record()
        self._scope = scope
        self._began = time.monotonic()
        self._time = datetime.now(timezone.utc)
        self._status = 500  # of one that ends without a reply
        self._bytes = 0

    def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))

    def to_dict(self) -> dict[str, Any]:
        """What the access log says of it, besides its record."""
        state = self._scope.get("state", {})
        return {
            "time": self._time.isoformat(timespec="milliseconds"),
            "id": state.get("id"),
            "client": state.get("client"),
            "method": self._scope["method"],
            "path": shorten(route_path(self._scope)),
            "status": self._status,
            "bytes": self._bytes,
            "seconds": round(time.monotonic() - self._began, DECIMALS),
        }
