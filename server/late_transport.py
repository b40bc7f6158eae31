"""A connection's transport that is not closed while its client still sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class LateTransport:
    """``transport``, but ``close`` asks first whether the client ``is_sending``.

    Then only this side is closed: a socket that is closed with bytes nobody has read resets the
    connection, and the client's system throws the reply away that it has not read either. With TLS
    there are no two sides, and the client ends where its reply does.
    """

    def __init__(self, transport: asyncio.Transport, is_sending: Callable[[], bool]) -> None:
        self.is_late = False
        self._transport = transport
        self._is_sending = is_sending

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.is_late or self._transport.is_closing()

    def is_closed(self) -> bool:
        """Whether nothing of it is left."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Say that nothing more comes; the second time close it whatever the client does."""
        if self.is_closing() or not self._is_sending():
            self._transport.close()
            return
        self.is_late = True
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
