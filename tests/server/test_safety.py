"""The table of docs/serve-safety.md: what is tried against a server, and what comes back.

Each test stands in a row of the table by its name.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from golden import ROOT
from serving import Served, question
from wire import Wire, request, statuses

from vpt_edge.commands import serve as serve_command

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle

Serve = Callable[..., Served]
KEY = "sk-right"
SCRIPT = "<script>alert(1)</script>"
MEBIBYTE = 1 << 20
PAGE = ROOT / "docs" / "serve-safety.md"


@pytest.fixture(scope="module")
def served(bundle: Bundle) -> Iterator[Served]:
    """With the usual settings, and a model that has nothing to say."""
    with Served(bundle) as served:
        yield served


def port(served: Served) -> int:
    return served.listener.port


def code(reply: bytes) -> str:
    """Of the one reply that a connection got: its status and the error's code."""
    (status,) = statuses(reply)
    body = reply.partition(b"\r\n\r\n")[2]
    return f"{status} {json.loads(body)['error']['code']}"


def still_answers(served: Served) -> bool:
    return bool(served.client.get("/health").status_code == 200)


def resident() -> int:
    """Bytes of memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024


# ---- who asks


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer sk-wrong", f"Basic {KEY}", f"Bearer {KEY}x"])
def test_a_wrong_key(serve: Serve, key: str) -> None:
    served = serve(keys=(KEY,))
    for path in ("/v1/models", "/models", "/metrics", "/answers/1", "/sources", "/api/tags"):
        assert served.client.get(path, headers={"Authorization": key}).status_code == 401
    reply = served.client.post(
        "/v1/chat/completions", json=question(), headers={"Authorization": key}
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert KEY not in reply.text


def test_a_key_in_the_address(serve: Serve) -> None:
    """It would stand in logs and in the history of browsers."""
    served = serve(keys=(KEY,))
    assert served.client.get(f"/v1/models?key={KEY}&api_key={KEY}").status_code == 401


def test_the_page_asks_for_the_key_itself(serve: Serve) -> None:
    served = serve(keys=(KEY,))
    page = served.client.get("/").text
    for address in re.findall(r'(?:src|href)="(/?page/[^"]+)"', page):
        assert served.client.get(f"/{address.removeprefix('/')}").status_code == 200


def test_a_way_round_the_key(serve: Serve) -> None:
    served = serve(keys=(KEY,))
    for path in (
        "//v1/models",
        "/health/../v1/models",
        "/%2e/v1/models",
        "/health%2f..%2fv1/models",
    ):
        with Wire(port(served)) as wire:
            reply = wire.send(request(line=f"GET {path} HTTP/1.0")).read_all()
        assert b" 401 " in reply.partition(b"\r\n")[0]
    for line in ("GET http://localhost/health HTTP/1.0", "GET /health?/v1/models HTTP/1.0"):
        with Wire(port(served)) as wire:
            assert b"tiny" not in wire.send(request(line=line)).read_all()


def test_no_key_for_other_machines(capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5"):
        assert serve_command.main(["bundle", "--host", host]) == 2
        printed = capsys.readouterr()
        assert "give --api-key-file FILE, or --insecure" in printed.err
        assert printed.err.count("\n") == 1


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example"])
def test_a_rebound_name(served: Served, host: str) -> None:
    reply = served.client.post("/v1/chat/completions", json=question(), headers={"Host": host})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:1", "null"])
def test_a_foreign_page(serve: Serve, origin: str) -> None:
    served = serve("A dog.")
    headers = {"Origin": origin}
    reply = served.client.post("/v1/chat/completions", json=question(), headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "origin_not_allowed")
    asked = {**headers, "Access-Control-Request-Method": "POST"}
    preflight = served.client.options("/v1/chat/completions", headers=asked)
    read = served.client.get("/v1/models", headers=headers)
    for reply in (preflight, read):
        assert "access-control-allow-origin" not in reply.headers
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_post_without_preflight(served: Served, kind: str) -> None:
    """What a browser sends for a foreign page without asking."""
    body = json.dumps(question())
    reply = served.client.post("/v1/chat/completions", content=body, headers={"Content-Type": kind})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_a_page_in_a_frame(served: Served) -> None:
    for path in ("/", "/page/page.js", "/health"):
        policy = served.client.get(path).headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert re.match(r"default-src '(self|none)';", policy)


# ---- how much, and how slowly


def test_100_mb_that_are_announced(served: Served) -> None:
    with Wire(port(served)) as wire:
        wire.send(request("", f"Content-Length: {100 * MEBIBYTE}", "Expect: 100-continue"))
        assert code(wire.read_all()) == "413 body_too_large"  # and not "100 Continue"
    assert still_answers(served)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="not Linux")
def test_100_mb_in_chunks(serve: Serve) -> None:
    served = serve(max_body=MEBIBYTE)
    chunk = b"a" * MEBIBYTE
    before = resident()
    with Wire(port(served)) as wire:
        wire.send(request("", "Transfer-Encoding: chunked"))
        try:
            for _ in range(100):
                wire.send(b"100000\r\n" + chunk + b"\r\n")
        except OSError:
            return  # it has closed before the rest
        assert b"413" in wire.read_all()
    assert resident() - before < 20 * MEBIBYTE
    assert still_answers(served)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_100_mb_of_an_ordinary_client(served: Served, connection: str) -> None:
    """It sends everything before it reads: on this machine fast enough to be told."""
    reply = served.client.post(
        "/v1/chat/completions",
        content=b"a" * (100 * MEBIBYTE),
        headers={"Content-Type": "application/json", "Connection": connection},
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")


def test_a_slow_head(serve: Serve) -> None:
    served = serve(header_seconds=0.5)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(port(served))) for _ in range(20)]
        for wire in wires:
            wire.send("GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
        assert still_answers(served)
        assert wires[0].drip(b"a" * 500, 0.05) < 5
        for wire in wires[1:]:
            assert wire.read_all() == b""


def test_a_slow_body(serve: Serve) -> None:
    served = serve(body_seconds=0.5)
    with Wire(port(served)) as wire:
        wire.send(request("", "Content-Length: 1000"))
        for _ in range(30):
            wire.send(" ")
            time.sleep(0.05)
        assert code(wire.read_all()) == "408 body_timeout"


def test_a_huge_head(served: Served) -> None:
    with Wire(port(served)) as wire:
        reply = wire.send(request("", "X: " + "a" * 17_000)).read_until(b"}}")
        assert code(reply) == "431 head_too_large"
    with Wire(port(served)) as wire:
        wire.send("GET /health HTTP/1.1\r\nX: " + "a" * 17_000)
        assert code(wire.read_all()) == "400 invalid_request"
    assert still_answers(served)


def test_1000_connections_that_ask_nothing(serve: Serve) -> None:
    served = serve("A dog.")
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(Wire(port(served)))
        assert served.ask().json()["choices"][0]["message"]["content"] == "A dog."


@pytest.mark.parametrize(
    "body",
    [
        "[" * 1_000_000,
        '{"messages":' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"seed": ' + "9" * 1_000_000 + "}",
        '{"messages": [' + "{}," * 1_000_000 + "{}]}",
        '{"messages": ["\\ud800"]}',
        '{"temperature": 1e999}',
        '{"temperature": NaN}',
    ],
)
def test_a_bomb_of_json(served: Served, body: str) -> None:
    with Wire(port(served)) as wire:
        assert code(wire.send(request(body)).read_until(b"}}")) == "400 invalid_json"
    assert still_answers(served)


def test_a_body_that_unfolds(served: Served) -> None:
    with Wire(port(served)) as wire:
        reply = wire.send(request("", "Content-Encoding: gzip")).read_until(b"}}")
    assert code(reply) == "415 unsupported_media_type"


def test_too_many_messages(served: Served) -> None:
    body = question()
    body["messages"] = [{"role": "user", "content": "a"}] * 300 + body["messages"]
    reply = served.client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400
    assert "messages has 301 entries" in reply.json()["error"]["message"]


# ---- what is not what it seems

TWO = request("", line="GET /health HTTP/1.1")  # what is to be smuggled


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 0", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 0"),
        ("Content-Length: 0, 5",),
        ("Content-Length: +0",),
        ("Content-Length: -1",),
        ("Content-Length: 0x0",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: identity", "Content-Length: 5"),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Host: other", "Content-Length: 0"),
        ("X: a\x00b", "Content-Length: 0"),
    ],
)
def test_a_request_inside_another(served: Served, headers: tuple[str, ...]) -> None:
    with Wire(port(served)) as wire:
        body = b"0\r\n\r\n" + TWO
        (status, *others) = statuses(wire.send(request(body, *headers)).read_all())
        assert status in (400, 501)
        assert others == []


@pytest.mark.parametrize(
    "size", [b"-5", b"0x5", b"5 5", b"+5", b"fffffffff", b"f" * 18, b"f" * 30, b"", b"5\r", b"5\n"]
)
def test_a_chunk_of_no_size(serve: Serve, size: bytes) -> None:
    """What looks like a request behind it is not one."""
    served = serve(body_seconds=0.3)
    with Wire(port(served)) as wire:
        wire.send(request("", "Transfer-Encoding: chunked") + size + b"\r\n")
        (status,) = statuses(wire.send(b"hello\r\n0\r\n\r\n" + TWO).read_all())
        assert status in (400, 408, 413)


@pytest.mark.parametrize(
    "path",
    [
        "/answers/../../etc/passwd",
        "/answers/..%2f..%2f..%2fetc%2fpasswd",
        "/answers/%2e%2e/%2e%2e/etc/passwd",
        "/answers/....//....//etc/passwd",
        "/..%5c..%5cetc%5cpasswd",
        "/page/../../pyproject.toml",
        "/page/..%2f..%2fpyproject.toml",
        "/page/page.js%00.html",
        "//etc/passwd",
        "/answers/" + "a" * 5000,
    ],
)
def test_a_path_out_of_the_house(served: Served, path: str) -> None:
    with Wire(port(served)) as wire:
        reply = wire.send(request(line=f"GET {path} HTTP/1.0")).read_all()
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b" 404 " in head.partition(b"\r\n")[0]
    assert b"root:" not in body and b"[project]" not in body


def test_a_script_in_what_is_asked_and_answered(serve: Serve) -> None:
    """It comes back as JSON that no browser takes for a page."""
    served = serve(SCRIPT, SCRIPT)
    replies = [
        served.ask(text=SCRIPT),
        served.ask(model=SCRIPT),
        served.client.get(f"/v1/models/{SCRIPT}"),
        served.client.get(f"/{SCRIPT}"),
    ]
    for reply in replies:
        assert SCRIPT in json.dumps(reply.json())
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "script-src" not in reply.headers["content-security-policy"]
    stream = served.ask(text="Other?", stream=True)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["x-content-type-options"] == "nosniff"
    assert "\n<script" not in stream.text


def test_every_reply_says_little(served: Served) -> None:
    """Not which program answers, nor where its files lie."""
    for reply in (served.client.get("/health"), served.client.get("/no"), served.ask(model="x")):
        assert "server" not in reply.headers
        assert str(ROOT) not in reply.text


def rows() -> Iterator[str]:
    yield from re.findall(r"`(test_\w+)`", PAGE.read_text("utf-8"))


def test_the_page_names_these_tests_and_no_other() -> None:
    """Tests of other files stand there with the file."""
    own = {
        name for name, value in globals().items() if name.startswith("test_") and callable(value)
    }
    own.remove("test_the_page_names_these_tests_and_no_other")
    assert own - set(rows()) == set()
    text = "\n".join(
        path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))
    )
    assert {name for name in rows() if f"def {name}(" not in text} == set()
