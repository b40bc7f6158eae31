"""HTTP by hand: what no well-behaved client would send."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

LONG = 30.0


class Wire:
    """A connection to a port of this machine."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), timeout=LONG)

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, data: bytes | str) -> Wire:
        if isinstance(data, str):
            data = data.encode("latin-1")
        self._socket.sendall(data)
        return self

    def drip(self, data: bytes, seconds: float) -> float:
        """Send it a byte at a time until the server closes; returns after how many seconds."""
        began = time.monotonic()
        self._socket.settimeout(seconds)
        for number in range(len(data)):
            try:
                self._socket.sendall(data[number : number + 1])
                if self._socket.recv(65536) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        return time.monotonic() - began

    def read_all(self) -> bytes:
        """What comes until the server closes."""
        data = b""
        try:
            while chunk := self._socket.recv(65536):
                data += chunk
        except ConnectionResetError:
            pass
        return data

    def read_until(self, end: bytes) -> bytes:
        data = b""
        while end not in data:
            chunk = self._socket.recv(65536)
            assert chunk, data
            data += chunk
        return data


def request(body: bytes | str = "", *headers: str, line: str = "") -> bytes:
    """A request with a body of JSON, and its length unless ``headers`` say how it comes."""
    if isinstance(body, str):
        body = body.encode()
    lines = [line or "POST /v1/chat/completions HTTP/1.1", "Host: localhost", *headers]
    names = {header.partition(":")[0].strip().lower() for header in headers}
    if "content-type" not in names:
        lines.append("Content-Type: application/json")
    if not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    return f"{head}\r\n\r\n".encode("latin-1") + body


def statuses(data: bytes) -> list[int]:
    """Of the replies in what a server has sent."""
    parts = data.split(b"HTTP/1.1 ")[1:]
    return [int(part[:3]) for part in parts]
