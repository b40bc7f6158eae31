"""One POST over HTTP, which ends in time."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import socket
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self


class Reply(NamedTuple):
    """``retry_after``: seconds that the other side asks for, 0 where it does not; ``problem``: the
    reply in words.
    """

    status: int
    retry_after: float
    problem: str


class Deadline:
    """The moment at which a request is over, whatever it waits for.

    A timeout of a socket bounds each read alone: an answer that drips would never end.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._line: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self.cut)
        self._timer.daemon = True
        self.is_over = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = None

    def cut(self) -> None:
        """It is over, from any thread."""
        with self._lock:
            self.is_over = True
            if self._line is not None:
                with contextlib.suppress(OSError):  # closed by the other side
                    self._line.shutdown(socket.SHUT_RDWR)

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """As ``socket.create_connection``, all addresses of a name within the time."""
        places = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        failure: OSError = TimeoutError()
        for index, place in enumerate(places):
            share = self._remaining() / (len(places) - index)
            host = str(place[4][0])
            try:
                line = socket.create_connection((host, address[1]), share)
            except OSError as error:
                failure = error
                continue
            self._guard(line)
            return line
        raise failure

    def _remaining(self) -> float:
        remaining = self._end - time.monotonic()
        if self.is_over or remaining <= 0:
            raise TimeoutError
        return remaining

    def _guard(self, line: socket.socket) -> None:
        """Let ``cut`` reach it, also when TLS has made another object of it."""
        line.settimeout(self._remaining())
        with self._lock:
            self._line = line.dup()
        if self.is_over:
            self.cut()


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connect, request)

    def _connect(self, host: str, **options: Any) -> http.client.HTTPConnection:
        return _bind(http.client.HTTPConnection(host, **options), self._deadline)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connect, request)

    def _connect(self, host: str, **options: Any) -> http.client.HTTPConnection:
        return _bind(http.client.HTTPSConnection(host, **options), self._deadline)


def _bind(connection: http.client.HTTPConnection, deadline: Deadline) -> http.client.HTTPConnection:
    vars(connection)["_create_connection"] = deadline.connect  # there to be replaced, it says
    return connection


def post(url: str, body: bytes, headers: Mapping[str, str], deadline: Deadline) -> Reply:
    """Send ``body`` through the environment's proxy, and read no more than the answer's head.

    Redirects are not followed. Raises TimeoutError at the ``deadline``, OSError and HTTPException.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), _Http(deadline), _Https(deadline)):
        opener.add_handler(handler)
    request = urllib.request.Request(url, body, dict(headers), method="POST")
    try:
        with deadline, opener.open(request) as response:
            status = response.status
            wait = _seconds(response.headers.get("Retry-After", ""))
            problem = f"it answers {status} {http.client.responses.get(status, '')}".rstrip()
            if 300 <= status < 400:
                problem += ", and redirects are not followed"
            return Reply(status, wait, problem)
    except (OSError, http.client.HTTPException) as error:
        if deadline.is_over:
            raise TimeoutError from error
        raise


def _seconds(text: str) -> float:
    """Of a Retry-After: a number, or a date."""
    if text.isdecimal():
        return float(text[:9])
    try:
        date = email.utils.parsedate_to_datetime(text)
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
