"""Connections bounded in time and number, before an application that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from wire import Wire, request, statuses

from vpt_edge.server import http_connection
from vpt_edge.server.http_connection import LINGER
from vpt_edge.server.http_server import HttpServer
from vpt_edge.server.listening_sockets import open_sockets
from vpt_edge.server.settings import Settings

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

LONG = 30.0
GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Running:
    """A server with an application: "/" says who asks, "/slow" waits for ``goes_on``, "/read" reads
    its body, "/endless" ends when nobody takes any more.
    """

    def __init__(self, **settings: Any) -> None:
        self.goes_on = threading.Event()
        self.failure: BaseException | None = None
        self.server = HttpServer(self._answer, Settings("model", **settings), None)
        (listener,) = open_sockets("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve([listener])), daemon=True
        )
        self._thread.start()
        assert self.server.answers.wait(LONG)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self.goes_on.set()
        self.server.should_exit = True
        self._thread.join(LONG)
        assert not self._thread.is_alive()

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        while scope["path"] == "/slow" and not self.goes_on.is_set():
            await asyncio.sleep(0.01)
        more = scope["path"] == "/read"
        while more:
            more = (await receive()).get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while scope["path"] == "/endless":
            chunk = b"a" * 65536
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if (await asyncio.wait_for(_look(receive), None))["type"] == "http.disconnect":
                return
        body = json.dumps({"client": scope["client"][0], "scheme": scope["scheme"]}).encode()
        await send({"type": "http.response.body", "body": body})


async def _look(receive: Receive) -> Any:
    """Whether the client is gone, without waiting."""
    asked = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    if asked.done():
        return asked.result()
    asked.cancel()
    return {"type": "nothing"}


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Running(**settings))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_head_has_its_time(run: Callable[..., Running]) -> None:
    running = run(header_seconds=0.5)
    with Wire(running.port) as wire:
        assert wire.read_all() == b""  # nothing was sent
    with Wire(running.port) as wire:
        wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        assert wire.drip(b"a" * 500, 0.05) < 5


def test_the_next_head_on_a_connection_has_it_too(run: Callable[..., Running]) -> None:
    running = run(header_seconds=0.5)
    with Wire(running.port) as wire:
        wire.send(GET).read_until(b"}")
        time.sleep(0.7)  # silence between two requests is something else
        wire.send(GET).read_until(b"}")
        assert wire.drip(GET.replace("\r\n\r\n", "\r\nX-Slow: ").encode() + b"a" * 500, 0.05) < 5


def test_a_head_that_comes_in_pieces_in_time_is_one(run: Callable[..., Running]) -> None:
    with Wire(run(header_seconds=5).port) as wire:
        for letter in GET:
            wire.send(letter)
        assert statuses(wire.read_until(b"}")) == [200]


def test_a_request_behind_another_waits_for_its_answer(run: Callable[..., Running]) -> None:
    """For longer than a head may take."""
    running = run(header_seconds=0.3)
    with Wire(running.port) as wire:
        wire.send(GET.replace("/ ", "/slow ") + GET + GET[:5])
        time.sleep(0.8)
        running.goes_on.set()
        data = wire.read_until(b"}")
        while len(statuses(data)) < 2:
            data += wire.read_until(b"}")
        assert statuses(data) == [200, 200]
        assert statuses(wire.read_all()) == []  # the third never comes


@pytest.mark.parametrize("size", [20_000, 2_000_000])
@pytest.mark.parametrize("begin", ["GET /", "GET / HTTP/1.1\r\nX-Long: "])
def test_a_head_has_a_size(run: Callable[..., Running], size: int, begin: str) -> None:
    running = run(header_seconds=LONG)
    with Wire(running.port) as wire:
        try:
            wire.send(begin + "a" * size)
        except OSError:
            return  # it has closed before the rest
        assert statuses(wire.read_all()) in ([400], [])


def test_a_body_that_nobody_reads_does_not_hold_a_connection(run: Callable[..., Running]) -> None:
    running = run()
    with Wire(running.port) as wire:
        wire.send(request("", "Content-Length: 1000", line="POST / HTTP/1.1")).read_until(b"}")
        assert LINGER - 1 < wire.drip(b"a" * 1000, 0.05) < LINGER + 5


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("how", ["Content-Length: 30000000", "Transfer-Encoding: chunked"])
def test_who_sends_all_before_it_reads_has_an_early_reply(
    run: Callable[..., Running], connection: str, how: str
) -> None:
    """A socket that is closed with bytes nobody has read is reset, and the reply is lost."""
    head = request("", how, f"Connection: {connection}", line="POST / HTTP/1.1")
    chunk = b"a" * 1_000_000
    if "chunked" in how:
        chunk = b"f4240\r\n" + chunk + b"\r\n"
    with Wire(run().port) as wire:
        wire.send(head)
        time.sleep(0.3)  # it has been answered
        for _ in range(30):
            wire.send(chunk)
        assert statuses(wire.read_until(b"}")) == [200]


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_who_sends_for_ever_behind_a_reply_is_left(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    monkeypatch.setattr(http_connection, "LINGER", LONG)
    monkeypatch.setattr(http_connection, "LINGER_BYTES", 1 << 20)
    running = run()
    headers = ("Content-Length: 1000000000", f"Connection: {connection}")
    with Wire(running.port) as wire:
        wire.send(request("", *headers, line="POST / HTTP/1.1"))
        wire.read_until(b"}")
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            wire.send(b"a" * 30_000_000)
        wait_until(lambda: running.connections == 0)


def test_who_sends_slowly_behind_its_last_reply_is_left(run: Callable[..., Running]) -> None:
    headers = ("Content-Length: 1000", "Connection: close")
    running = run()
    with Wire(running.port) as wire:
        wire.send(request("", *headers, line="POST / HTTP/1.1")).read_all()
        assert running.connections == 1
        began = time.monotonic()
        wait_until(lambda: running.connections == 0)
        assert LINGER - 1 < time.monotonic() - began < LINGER + 5


def test_those_that_linger_keep_nobody_out(run: Callable[..., Running]) -> None:
    running = run(max_connections=5)
    headers = ("Content-Length: 1000", "Connection: close")
    with ExitStack() as stack:
        for _ in range(100):
            wire = stack.enter_context(Wire(running.port))
            wire.send(request("", *headers, line="POST / HTTP/1.1")).read_all()
        wait_until(lambda: running.connections <= 5)
        wire = stack.enter_context(Wire(running.port))
        assert statuses(wire.send(GET).read_until(b"}")) == [200]


def test_a_body_that_is_late_but_whole_leaves_the_connection_open(
    run: Callable[..., Running],
) -> None:
    with Wire(run().port) as wire:
        wire.send(request("", "Content-Length: 5", line="POST / HTTP/1.1")).read_until(b"}")
        wire.send("12345")
        time.sleep(LINGER + 1)
        assert statuses(wire.send(GET).read_until(b"}")) == [200]


def test_a_client_that_takes_nothing_is_left(run: Callable[..., Running]) -> None:
    running = run(write_seconds=0.5)
    with Wire(running.port) as wire:
        wire.send(GET.replace("/ ", "/endless "))
        wait_until(lambda: running.connections == 1)
        wait_until(lambda: running.connections == 0)


def test_a_thousand_that_ask_nothing_keep_nobody_out(run: Callable[..., Running]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    running = run(max_connections=50, header_seconds=LONG)
    with ExitStack() as stack:
        for number in range(1000):
            stack.enter_context(Wire(running.port))
            if number % 100 == 0:
                wire = stack.enter_context(Wire(running.port))
                assert statuses(wire.send(GET).read_until(b"}")) == [200]
        wait_until(lambda: running.connections <= 50)
        wire = stack.enter_context(Wire(running.port))
        assert statuses(wire.send(GET).read_until(b"}")) == [200]


def test_one_that_waits_for_its_answer_is_never_closed_for_another(
    run: Callable[..., Running],
) -> None:
    running = run(max_connections=2)
    with ExitStack() as stack:
        asking = [stack.enter_context(Wire(running.port)) for _ in range(2)]
        for wire in asking:
            wire.send(GET.replace("/ ", "/slow "))
        others = [stack.enter_context(Wire(running.port)) for _ in range(5)]
        others[-1].send(GET).read_until(b"}")
        running.goes_on.set()
        for wire in asking:
            assert statuses(wire.read_until(b"}")) == [200]


def test_a_client_cannot_call_itself_another(run: Callable[..., Running]) -> None:
    headers = ("X-Forwarded-For: 10.1.2.3", "X-Forwarded-Proto: https", "Forwarded: for=10.1.2.3")
    with Wire(run().port) as wire:
        data = wire.send(request("", *headers, line="GET / HTTP/1.1")).read_until(b"}")
    assert b'{"client": "127.0.0.1", "scheme": "http"}' in data


def test_what_is_not_http_gets_one_reply_in_json(run: Callable[..., Running]) -> None:
    running = run()
    for data in (b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"GET /\r\n\r\n", b"\r\n" * 9000):
        with Wire(running.port) as wire:
            reply = wire.send(data + b"\r\n\r\n").read_all()
            assert statuses(reply) == [400]
            assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_request"


def test_rubbish_in_the_midst_of_a_body_ends_the_connection(run: Callable[..., Running]) -> None:
    running = run()
    with Wire(running.port) as wire:
        head = request("", "Transfer-Encoding: chunked", line="POST /read HTTP/1.1")
        reply = wire.send(head + b"zz\r\n").read_all()
        assert statuses(reply) == [400]
    with Wire(running.port) as wire:
        wire.send(head.replace(b"/read", b"/endless"))
        wire.read_until(b"aaa")
        wire.send(b"zz\r\n")
        wire.read_all()
    wait_until(lambda: running.connections == 0)


def test_nothing_is_left_open_when_it_ends(run: Callable[..., Running]) -> None:
    running = run(grace_seconds=0.1)
    with Wire(running.port) as wire, socket.create_connection(("127.0.0.1", running.port)):
        wire.send(GET.replace("/ ", "/endless "))
        wire.read_until(b"aaa")
        running.server.should_exit = True
        wait_until(lambda: not running._thread.is_alive())
        assert running.connections == 0
