"""What a client is told of failures that it did not cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from serving import Served, encode, question

from vpt_edge.runtime.errors import SessionError
from vpt_edge.server import app

if TYPE_CHECKING:
    import httpx

Serve = Callable[..., Served]
FILE = "/opt/vpt-edge/bundle/decoder.onnx"


def fail(*given: object) -> None:
    raise SessionError(f"cannot run {FILE}", f"chmod 644 {FILE}")


def ask(served: Served, route: str, stream: bool) -> httpx.Response:
    bodies = {
        "/v1/chat/completions": question(stream=stream),
        "/api/generate": {"prompt": "What?", "images": [encode()], "stream": stream},
    }
    return served.client.post(route, json=bodies[route])


def check(reply: httpx.Response, told: str) -> None:
    """The client has the id, and the log with it the rest."""
    number = reply.headers["x-request-id"]
    assert FILE not in reply.text
    assert f"the server failed at the request {number}; its log says why" in reply.text
    assert told.count(f"request {number} failed: cannot run {FILE}; chmod 644 {FILE}") == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/api/generate"])
def test_a_session_that_fails_is_told_without_its_words(
    serve: Serve, capsys: pytest.CaptureFixture[str], route: str, stream: bool
) -> None:
    served = serve("A dog.")
    with mock.patch.object(served.script.sessions["decoder"], "run", fail):
        reply = ask(served, route, stream)
    assert reply.status_code == 500
    check(reply, capsys.readouterr().err)


def test_so_it_is_in_the_midst_of_a_stream(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve("A dog." * 100)
    decoder = served.script.sessions["decoder"]
    runs = list[None]()
    run = decoder.run

    def run_twice(inputs: Any, outputs: Any) -> None:
        runs.append(None)
        if len(runs) > 2:
            fail()
        run(inputs, outputs)

    with mock.patch.object(decoder, "run", run_twice):
        reply = ask(served, "/v1/chat/completions", stream=True)
    assert reply.status_code == 200
    last = reply.text.rstrip().rpartition("\n\ndata: ")[2]
    assert json.loads(last)["error"]["code"] == "internal_error"
    check(reply, capsys.readouterr().err)


def test_so_it_is_where_nothing_is_asked(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "describe_model", fail)
    reply = serve().client.get("/v1/models")
    assert reply.status_code == 500
    check(reply, capsys.readouterr().err)
