"""One connection of a client, bounded in time.

uvicorn bounds the silence between two requests, and nothing else: a client that sends a byte of a
head now and then, drips a body that nobody reads, or takes nothing of its reply would keep its
connection for ever.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from vpt_edge.server.error_reply import UNCLEAR
from vpt_edge.server.errors import RequestError
from vpt_edge.server.late_transport import LateTransport
from vpt_edge.server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

BURST = 64  # connections beyond the most: perhaps they have asked, and it has not been read yet
# For what a client still sends, or takes, when everything has been said.
LINGER = 5.0  # seconds
LINGER_BYTES = 128 << 20


class HttpConnection(H11Protocol):
    """Closed by ``sweep`` when the client is too slow, and by ``close_idle``."""

    settings: ClassVar[Settings] = Settings("")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.since = time.monotonic()  # without a request
        self._head_since: float | None = self.since
        self._full_since: float | None = None
        self._end_since: float | None = None
        self._end_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.late = LateTransport(transport, self._is_sending)
        self.transport = cast("asyncio.Transport", self.late)
        close_idle(self.connections, self.settings.max_connections + BURST)

    def _is_sending(self) -> bool:
        """Whether a request has not come whole, or what came is not one."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def data_received(self, data: bytes) -> None:
        if self._end_since is not None:
            self._end_bytes += len(data)
        if self._end_bytes > LINGER_BYTES:
            self.transport.abort()
        if not self.late.is_late:
            super().data_received(data)
            self._look_for_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.since = time.monotonic()
        if self.conn.their_state is h11.SEND_BODY:  # and nobody reads it any more
            self._end_since = self.since
            self._end_bytes = 0
        self._look_for_head()

    def _look_for_head(self) -> None:
        """See whether one has begun, or is complete."""
        if self.conn.their_state is not h11.SEND_BODY:
            self._end_since = None
        if self.conn.their_state is not h11.IDLE:
            self._head_since = None
        elif self._head_since is None and self.conn.trailing_data[0]:
            self._head_since = time.monotonic()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full_since = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._full_since = None

    def sweep(self, now: float) -> None:
        """Close it where the client has had its time."""
        settings = self.settings
        if self.transport.is_closing() and self._end_since is None:
            self._end_since = now
        if _is_past(self._head_since, settings.header_seconds, now):
            self.transport.close()
        is_full = _is_past(self._full_since, settings.write_seconds, now)
        if is_full or _is_past(self._end_since, LINGER, now):
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Say in our words that it is not a request."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # in the midst of a reply
            return
        if self.cycle is not None:
            self.cycle.disconnected = True
        problem = "this is not a request of HTTP/1.1, or its head is too long"
        body = json.dumps(RequestError(400, UNCLEAR, problem).to_dict()).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("x-content-type-options", "nosniff"),
            ("connection", "close"),
        ]
        events = (
            h11.Response(status_code=400, headers=headers),
            h11.Data(body),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def close_idle(connections: Iterable[object], most: int) -> None:
    """Where there are more than ``most``, close those that have asked for nothing the longest."""
    ours = [each for each in connections if isinstance(each, HttpConnection)]
    still_open = [each for each in ours if not each.late.is_closed()]
    idle = [each for each in still_open if each.is_idle]
    idle.sort(key=lambda each: each.since)
    for each in idle[: max(0, len(still_open) - most)]:
        each.shutdown()


def _is_past(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since > seconds
