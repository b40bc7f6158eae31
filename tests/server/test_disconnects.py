"""Clients that go away: what they asked for is not computed any further."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from serving import LONG, Served, encode, question

Serve = Callable[..., Served]
ANSWER = "A dog. " * 200


def openai_body(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", question(**fields)


def ollama_body(**fields: Any) -> tuple[str, dict[str, Any]]:
    message = {"role": "user", "content": "What?", "images": [encode()]}
    options = {}
    if "perception" in fields:
        options["perception"] = fields.pop("perception")
    return "/api/chat", {"messages": [message], "options": options, "stream": False, **fields}


BODIES = pytest.mark.parametrize("body", [openai_body, ollama_body])


@contextmanager
def connect(served: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.listener.port), LONG) as connection:
        yield connection


def post(connection: socket.socket, path: str, fields: dict[str, Any]) -> None:
    data = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def reset(connection: socket.socket) -> None:
    """Close it at once, as a machine does that is switched off and on."""
    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def stands_still(served: Served) -> bool:
    """Whether the model's steps stand still."""
    served.wait_idle()
    before = served.steps
    answer = served.ask(text="Who?", max_tokens=1)
    assert answer.status_code == 200
    return served.steps <= before + 2


@BODIES
def test_who_leaves_while_it_is_computed_ends_it(serve: Serve, body: Any) -> None:
    served = serve(ANSWER, "Next.")
    with connect(served) as connection:
        served.slow_down(0.005)
        post(connection, *body())
        served.wait_jobs(running=1, waiting=0)
    served.wait_idle()
    assert served.steps < len(ANSWER) / 2
    assert stands_still(served)


@BODIES
def test_who_leaves_while_it_is_streamed_ends_it(serve: Serve, body: Any) -> None:
    served = serve(ANSWER, "Next.")
    with connect(served) as connection:
        served.slow_down(0.005)
        post(connection, *body(stream=True, perception="off"))
        received = b""
        while b"dog" not in received and b"g" not in received.partition(b"\r\n\r\n")[2]:
            received += connection.recv(4096)
    served.wait_idle()
    assert served.steps < len(ANSWER) / 2
    assert stands_still(served)


@BODIES
def test_who_leaves_the_queue_is_never_computed(serve: Serve, body: Any) -> None:
    served = serve("First.", "Next.")
    with served.hold(), connect(served) as first:
        post(first, *openai_body())
        served.wait_jobs(running=1, waiting=0)
        with connect(served) as second:
            post(second, *body(stream=True))
            served.wait_jobs(running=1, waiting=1)
        served.wait_jobs(running=1, waiting=0)
    served.wait_idle()
    assert stands_still(served)


@BODIES
def test_a_connection_that_is_reset_ends_it(serve: Serve, body: Any) -> None:
    served = serve(ANSWER, "Next.")
    with connect(served) as connection:
        served.slow_down(0.005)
        post(connection, *body(stream=True, perception="off"))
        connection.recv(100)
        reset(connection)
    served.wait_idle()
    assert served.steps < len(ANSWER) / 2
    assert stands_still(served)


@BODIES
def test_who_reads_nothing_holds_up_nobody(serve: Serve, body: Any) -> None:
    served = serve(ANSWER, "Next.")
    with connect(served) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        post(connection, *body(stream=True, perception="off"))
        served.wait_jobs(running=1, waiting=0)
        served.wait_idle()
        answer = served.ask(text="Who?").json()
    assert answer["choices"][0]["message"]["content"] == "Next."


def test_who_leaves_with_half_a_body_is_not_computed(serve: Serve) -> None:
    served = serve("Next.")
    path, fields = openai_body()
    data = json.dumps(fields).encode()
    with connect(served) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:50])
    assert served.ask().json()["choices"][0]["message"]["content"] == "Next."


@BODIES
def test_an_error_on_the_way_is_the_last_piece(serve: Serve, body: Any) -> None:
    served = serve(ANSWER, time_limit=0.3)
    served.slow_down(0.005)
    path, fields = body(stream=True, perception="off")
    reply = served.client.post(path, json=fields)
    assert reply.status_code == 200
    last = [line for line in reply.text.splitlines() if line][-1]
    error = json.loads(last.removeprefix("data: "))["error"]
    message = error if isinstance(error, str) else error["message"]
    assert "not complete after 0.3 seconds" in message
    served.wait_idle()
