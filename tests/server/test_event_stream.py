from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tasks import run

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.result import Text
from vpt_edge.server import event_stream
from vpt_edge.server.connection import ClientGoneError
from vpt_edge.server.errors import RequestError
from vpt_edge.server.event_stream import EventStreamResponse
from vpt_edge.server.plain_answer import PlainAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message

    from vpt_edge.server.plain_answer import PlainEvent

NO_USAGE: Any = None
FAILED = b"the server failed at the request ; its log says why"
END = PlainAnswer("", (), (), "stop", NO_USAGE, "", ((1, 1),))  # which nobody reads


class Plain:
    """An answer as its bare text."""

    media_type = "text/plain"
    keep_alive = b"(waiting)"

    def begin(self) -> bytes:
        return b"begin "

    def take(self, event: PlainEvent) -> bytes:
        if isinstance(event, PlainAnswer):
            return b"end"
        assert isinstance(event, Text)
        return event.piece.encode()

    def fail(self, error: RequestError) -> bytes:
        return f"{error.status} {error}".encode()


class Events:
    """Gives ``pieces``, raises the exceptions among them, and waits for ever at None."""

    def __init__(self, *pieces: str | Exception | None) -> None:
        self._pieces = pieces
        self.closed = False
        self.waits = asyncio.Event()

    async def __call__(self) -> AsyncGenerator[PlainEvent, None]:
        try:
            for piece in self._pieces:
                if piece is None:
                    self.waits.set()
                    await asyncio.Event().wait()
                elif isinstance(piece, Exception):
                    raise piece
                else:
                    yield Text(piece)
            yield END
        finally:
            self.closed = True


class Client:
    """Receives messages; ``leave`` closes the connection, and so does the ``broken``-th message."""

    def __init__(self, broken: int = 1000) -> None:
        self.messages: list[Message] = []
        self._gone = asyncio.Event()
        self._broken = broken

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    def leave(self) -> None:
        self._gone.set()

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if len(self.messages) >= self._broken:
            raise OSError("nobody reads")
        self.messages.append(message)


async def serve(events: Events, client: Client) -> None:
    """Send what ``events`` give to ``client``, as the routes do."""
    response = await EventStreamResponse(events(), Plain()).start(client.receive)
    await response({}, client.receive, client.send)


def test_pieces_are_sent_as_they_come() -> None:
    async def main() -> None:
        events = Events("a ", "dog ")
        client = Client()
        await serve(events, client)
        assert client.body == b"begin a dog end"
        assert client.messages[0]["status"] == 200
        assert [message.get("more_body") for message in client.messages[-2:]] == [True, False]
        headers = dict(client.messages[0]["headers"])
        assert headers[b"cache-control"] == b"no-store"
        assert b"content-length" not in headers
        assert events.closed

    run(main())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RequestError(422, "time_limit", "too slow"), b"422 too slow"),
        (
            SessionError("/a/file is damaged"),
            b"500 the server failed at the request ; its log says why",
        ),
    ],
)
def test_an_error_between_pieces_is_the_last_one(error: Exception, said: bytes) -> None:
    async def main() -> None:
        events = Events("a ", error)
        client = Client()
        await serve(events, client)
        assert client.body == b"begin a " + said
        assert client.messages[-1]["more_body"] is False
        assert events.closed

    run(main())


def test_a_failure_of_the_server_is_told_without_its_words_and_raised() -> None:
    async def main() -> None:
        events = Events("a ", ValueError("the secret"))
        client = Client()
        with pytest.raises(ValueError, match="secret"):
            await serve(events, client)
        assert client.body.startswith(b"begin a 500 the server failed at the request")
        assert b"secret" not in client.body
        assert client.messages[-1]["more_body"] is False
        assert events.closed

    run(main())


def test_events_that_end_too_early_are_a_failure() -> None:
    async def main() -> None:
        async def short() -> AsyncGenerator[PlainEvent, None]:
            yield Text("a ")

        client = Client()
        response = await EventStreamResponse(short(), Plain()).start(client.receive)
        with pytest.raises(RuntimeError):
            await response({}, client.receive, client.send)
        assert b"500 the server failed" in client.body

    run(main())


def test_silence_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "SILENCE", 0.01)

    async def main() -> None:
        events = Events("a ", None)
        client = Client()
        serving = asyncio.create_task(serve(events, client))
        while client.body.count(b"(waiting)") < 3:
            await asyncio.sleep(0.01)
        client.leave()
        await serving
        assert events.closed

    run(main())


def test_a_client_that_leaves_ends_it() -> None:
    async def main() -> None:
        events = Events("a ", None)
        client = Client()
        serving = asyncio.create_task(serve(events, client))
        await events.waits.wait()
        client.leave()
        await serving
        assert events.closed
        assert client.body == b"begin a "

    run(main())


def test_a_client_that_leaves_before_it_begins_ends_it() -> None:
    async def main() -> None:
        events = Events("a ", None)
        client = Client()
        response = await EventStreamResponse(events(), Plain()).start(client.receive)
        client.leave()
        await response({}, client.receive, client.send)
        assert events.closed

    run(main())


def test_a_client_that_leaves_before_the_first_event_ends_it() -> None:
    async def main() -> None:
        events = Events(None)
        client = Client()
        starting = asyncio.create_task(EventStreamResponse(events(), Plain()).start(client.receive))
        await events.waits.wait()
        client.leave()
        with pytest.raises(ClientGoneError):
            await starting
        assert events.closed

    run(main())


def test_an_error_before_the_first_event_is_raised() -> None:
    async def main() -> None:
        events = Events(RequestError(429, "queue_full", "busy"))
        client = Client()
        with pytest.raises(RequestError, match="busy"):
            await EventStreamResponse(events(), Plain()).start(client.receive)
        assert events.closed

    run(main())


def test_patience_ends_before_the_first_event() -> None:
    async def main() -> None:
        events = Events(None)
        client = Client()
        response = await EventStreamResponse(events(), Plain()).start(client.receive, 0.01)
        serving = asyncio.create_task(response({}, client.receive, client.send))
        while client.body != b"begin ":
            await asyncio.sleep(0.01)
        client.leave()
        await serving
        assert events.closed

    run(main())


@pytest.mark.parametrize("count", range(5))
def test_a_connection_that_breaks_ends_it(count: int) -> None:
    async def main() -> None:
        events = Events("a ", "dog ")
        client = Client(broken=count)
        await serve(events, client)
        assert len(client.messages) == count
        assert events.closed

    run(main())


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_server_that_ends_cancels_it_however_often(times: int) -> None:
    async def main() -> None:
        events = Events("a ", None)
        client = Client()
        serving = asyncio.create_task(serve(events, client))
        await events.waits.wait()
        for _ in range(times):
            serving.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await serving
        await asyncio.sleep(0)
        assert events.closed

    run(main())


def test_it_may_be_cancelled_before_it_begins() -> None:
    async def main() -> None:
        events = Events("a ", None)
        client = Client()
        response = await EventStreamResponse(events(), Plain()).start(client.receive)
        serving = asyncio.ensure_future(response({}, client.receive, client.send))
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert events.closed

    run(main())
