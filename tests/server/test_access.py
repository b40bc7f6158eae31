"""What is let through to an application, and what is added on the way back."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from vpt_edge.server.access import Access
from vpt_edge.server.settings import Settings

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

PAGE = "https://home.example:8123"
POST = "/v1/chat/completions"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    state: dict[str, Any]

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Asked:
    """An application behind Access; ``work`` is what it does."""

    def __init__(self, **settings: Any) -> None:
        self.access = Access(self._answer, Settings("model", **settings))
        self.states = list[dict[str, Any]]()
        self.error: Exception | None = None
        self.waits: asyncio.Event | None = None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.states.append(scope["state"])
        if self.error is not None:
            raise self.error
        if self.waits is not None:
            await self.waits.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    def __call__(self, method: str = "GET", path: str = POST, **options: Any) -> Reply:
        return asyncio.run(self.ask(method, path, **options))

    async def ask(
        self,
        method: str = "GET",
        path: str = POST,
        headers: dict[str, str] | None = None,
        server: str = "127.0.0.1",
        client: str = "127.0.0.1",
    ) -> Reply:
        given = {"host": "localhost:8000", **(headers or {})}
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
            "server": (server, 8000),
            "client": (client, 5),
        }
        messages = list[Any]()

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            messages.append(message)

        await self.access(scope, receive, send)
        start, *rest = messages
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        body = b"".join(message.get("body", b"") for message in rest)
        return Reply(start["status"], names, body, scope["state"])


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_without_keys_everybody_may_ask() -> None:
    assert Asked()("POST").status == 200


def test_a_key_is_asked_for() -> None:
    ask = Asked(keys=("one", "two"))
    for headers in ({}, bearer("three"), {"authorization": "Basic one"}):
        reply = ask("POST", headers=headers)
        assert (reply.status, reply.code) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert json.loads(reply.body)["error"]["type"] == "authentication_error"
        assert b"three" not in reply.body
    assert ask("POST", headers=bearer("two")).status == 200
    assert len(ask.states) == 1


@pytest.mark.parametrize("path", ["/", "/health", "/readyz", "/page/page.js", "/page/page.css"])
def test_the_page_and_health_need_none(path: str) -> None:
    ask = Asked(keys=("one",))
    assert ask("GET", path).status == 200
    assert ask("POST", path).status == 401


@pytest.mark.parametrize(
    "path",
    [
        *("//health", "/health/", "/HEALTH", "/health/../v1/models", "/metrics", "/answers/1"),
        *("/page", "/page/", "/page/../v1/models", "/page/a/b", "//page/page.js", "/\n"),
    ],
)
def test_everything_else_does(path: str) -> None:
    assert Asked(keys=("one",))("GET", path).status == 401


def test_errors_below_api_are_ollamas() -> None:
    reply = Asked(keys=("one",))("POST", "/api/chat")
    assert json.loads(reply.body) == {
        "error": "there is no API key; send Authorization: Bearer KEY"
    }


def test_a_client_has_the_name_of_its_key_or_of_its_network() -> None:
    ask = Asked(keys=("one", "two"))
    assert ask(headers=bearer("two")).state["client"] == "key 1"
    assert ask(path="/health", client="2001:db8::7").state["client"] == "2001:db8::/64"
    assert Asked()(client="10.0.0.7").state["client"] == "10.0.0.7"


def test_each_request_has_a_number() -> None:
    ask = Asked(keys=("one",))
    replies = [ask(headers=bearer(key)) for key in ("one", "one", "two")]
    numbers = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(numbers)) == 3
    assert numbers == [reply.state["id"] for reply in replies]


def test_a_rebound_name_is_refused() -> None:
    reply = Asked()(headers={"host": "evil.example:8000"})
    assert (reply.status, reply.code) == (403, "host_not_allowed")
    assert b"vpt-serve --allow-host NAME" in reply.body
    assert Asked()(headers={"host": ""}).status == 403
    assert Asked(hosts=("evil.example",))(headers={"host": "evil.example:8000"}).status == 200


def test_a_reply_of_the_page_reaches_nobody_else() -> None:
    headers = Asked()().headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("access-control")]


def test_a_page_of_this_server_may_ask() -> None:
    assert Asked()("POST", headers={"origin": "http://localhost:8000"}).status == 200
    assert Asked()("POST", headers={"origin": "HTTP://LOCALHOST:8000"}).status == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost", "http://localhost:8001", "null", "", "https://"],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_a_foreign_page_may_not(origin: str, method: str) -> None:
    for settings in ({}, {"origins": (PAGE,)}):
        ask = Asked(**settings)
        reply = ask(method, headers={"origin": origin})
        assert (reply.status, reply.code) == (403, "origin_not_allowed")
        assert b"vpt-serve --allow-origin ORIGIN" in reply.body
        assert "access-control-allow-origin" not in reply.headers
        assert ask.states == []


def test_a_foreign_page_cannot_read_either() -> None:
    reply = Asked(origins=(PAGE,))(headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in reply.headers
    assert reply.headers["vary"] == "Origin"


@pytest.mark.parametrize("keys", [(), ("one",)])
def test_a_page_that_is_named_may_ask(keys: tuple[str, ...]) -> None:
    ask = Asked(origins=(PAGE,), keys=keys)
    wanted = {"access-control-request-headers": "authorization, x-stainless-os"}
    reply = ask("OPTIONS", headers={"origin": PAGE, **wanted})
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in reply.headers
    answer = ask("POST", headers={"origin": PAGE, **bearer("one")})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)


def test_a_page_that_is_named_can_read_errors() -> None:
    reply = Asked(origins=(PAGE,), keys=("one",))("POST", headers={"origin": PAGE})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (401, PAGE)


def test_a_request_that_two_programs_read_differently_is_refused() -> None:
    headers = {"content-length": "5", "transfer-encoding": "chunked"}
    reply = Asked()("POST", headers=headers)
    assert (reply.status, reply.code) == (400, "invalid_request")


def test_a_head_has_a_size() -> None:
    """Also one that comes in a single piece, which the parser of the protocol lets pass."""
    long = "a" * 17_000
    assert Asked()("GET", path=f"/{long}").code == "head_too_large"
    reply = Asked()("GET", headers={"x-long": long})
    assert (reply.status, reply.code) == (431, "head_too_large")
    assert Asked()("GET", headers={"x-long": long[:16_000]}).status == 200


def test_an_error_that_nobody_expected_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = list[str]()
    monkeypatch.setattr(
        logging.getLogger("vpt_edge.server.access"),
        "exception",
        lambda text, number: records.append(text % number),
    )
    ask = Asked()
    ask.error = ZeroDivisionError("secret")
    reply = ask("POST")
    assert (reply.status, reply.code) == (500, "internal_error")
    assert b"secret" not in reply.body
    assert records == [f"request {reply.state['id']} failed"]


def test_more_requests_at_a_time_are_told_to_come_again() -> None:
    ask = Asked(max_connections=2)

    async def crowd() -> list[Reply]:
        ask.waits = asyncio.Event()
        two = [asyncio.ensure_future(ask.ask()) for _ in range(2)]
        await asyncio.sleep(0)
        third = await ask.ask()
        assert len(ask.states) == 2
        ask.waits.set()
        return [third, *(await asyncio.gather(*two)), await ask.ask()]

    third, *others = asyncio.run(crowd())
    assert (third.status, third.code) == (503, "too_many_connections")
    assert third.headers["retry-after"] == "2"
    assert [reply.status for reply in others] == [200, 200, 200]
