from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request

from vpt_edge.server.body import MOST_VALUES, parse_json, read_json
from vpt_edge.server.connection import ClientGoneError
from vpt_edge.server.errors import RequestError
from vpt_edge.server.settings import Settings

SETTINGS = Settings("model", max_body=100, body_seconds=0.05)
JSON = {"content-type": "application/json"}


def read(chunks: Sequence[bytes], headers: dict[str, str] | None = None) -> Any:
    """What is read of a body that comes in ``chunks``, behind which nothing comes."""
    given = JSON if headers is None else headers
    scope: dict[str, Any] = {
        "type": "http",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    rest = list(chunks)

    async def receive() -> dict[str, Any]:
        if not rest:
            await asyncio.sleep(60)
        body = rest.pop(0)
        if body == GONE:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": body != END}

    return asyncio.run(read_json(Request(scope, receive), SETTINGS))


END = b""
GONE = b"gone"


def refusal(chunks: Sequence[bytes], headers: dict[str, str] | None = None) -> tuple[int, str]:
    with pytest.raises(RequestError) as error:
        read(chunks, headers)
    return error.value.status, error.value.code


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_in_chunks(kind: str) -> None:
    assert read([b'{"a"', b": 1}", END], {"content-type": kind}) == {"a": 1}


@pytest.mark.parametrize("kind", ["text/plain", "", "multipart/form-data", "application/json5"])
def test_another_kind_is_refused(kind: str) -> None:
    """A foreign page can send it without asking whether it may."""
    assert refusal([b"{}", END], {"content-type": kind}) == (415, "unsupported_media_type")


def test_what_would_unfold_is_refused() -> None:
    assert refusal([END], {**JSON, "content-encoding": "gzip"}) == (415, "unsupported_media_type")
    assert read([b"{}", END], {**JSON, "content-encoding": "identity"}) == {}


def test_a_body_has_a_limit() -> None:
    whole = b'"' + b"a" * 98 + b'"'
    assert read([whole, END]) == "a" * 98
    assert refusal([], {**JSON, "content-length": "101"}) == (413, "body_too_large")
    assert refusal([whole, b" ", END]) == (413, "body_too_large")
    assert refusal([b" " * 60, b" " * 60]) == (413, "body_too_large")
    assert refusal([whole, b" ", END], {**JSON, "content-length": "1"}) == (413, "body_too_large")


def test_a_body_has_its_time() -> None:
    assert refusal([b"{"]) == (408, "body_timeout")


def test_a_client_that_goes_away_is_not_an_error() -> None:
    with pytest.raises(ClientGoneError):
        read([b"{", GONE])


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"{} {}", b"'a'", b"[1,]", b"\xff", b"\xef\xbb\xbf{}", b"NaN", b"-Infinity"),
        *(b"1e999", b"9" * 401, b'"\\ud800"', b'{"\\uDC00": 1}', b'["\xed\xa0\x80"]'),
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b"[" * 5_000 + b"]" * 5_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"[" + b"[]," * MOST_VALUES + b"[]]",
    ],
)
def test_what_is_not_json_or_a_bomb_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        parse_json(data)


@pytest.mark.parametrize("value", [{"a": ["\U0001f600", 1.5, 10**300, None]}, "x" * 3_000_000, []])
def test_what_is_json_is_read(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value
