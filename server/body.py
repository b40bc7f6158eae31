"""The body of a request, within its limits."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

from vpt_edge.server.connection import ClientGoneError
from vpt_edge.server.errors import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request

    from vpt_edge.server.settings import Settings

MOST_VALUES = 100_000  # in a body: each takes memory, and its few letters time
MOST_DIGITS = 400  # of a number: reading one takes the square of them
HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a character beyond 16 bits, where it is escaped


async def read_json(request: Request, settings: Settings) -> Any:
    """The JSON in the body of ``request``.

    Raises RequestError for another kind, and for too much; ClientGoneError when the rest does not
    come any more.
    """
    _check_kind(request)
    try:
        data = await asyncio.wait_for(_read(request, settings.max_body), settings.body_seconds)
    except asyncio.TimeoutError:
        problem = f"the body did not come within {settings.body_seconds:g} seconds"
        raise RequestError(408, "body_timeout", problem) from None
    except ClientDisconnect:
        raise ClientGoneError from None
    try:
        return parse_json(data)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "invalid_json", f"the body is not JSON: {error}") from None


def parse_json(data: bytes) -> Any:
    """What ``data`` says. Raises ValueError and RecursionError for what is not JSON in UTF-8, has
    more values than a request can have, or halves of characters.
    """
    count = data.count(b",") + data.count(b"[") + data.count(b"{")
    if count > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES} values")
    text = data.decode("utf-8")
    value = json.loads(
        text, parse_int=_read_int, parse_float=_read_float, parse_constant=_refuse_constant
    )
    if HALF.search(data):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a half alone cannot be written
    return value


def _check_kind(request: Request) -> None:
    """A page can send any other kind without asking first whether it may."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        problem = f"Content-Type is {kind!r}, expected application/json"
        raise RequestError(415, "unsupported_media_type", problem)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        problem = f"Content-Encoding is {encoding!r}, expected none"
        raise RequestError(415, "unsupported_media_type", problem)


def _read_int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has more than {MOST_DIGITS} digits")
    return int(text)


def _read_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


async def _read(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise too_large(limit)
    data = bytearray()
    async for chunk in request.stream():  # of unknown length, where it comes in chunks
        if len(data) + len(chunk) > limit:
            raise too_large(limit)
        data += chunk
    return bytes(data)


def too_large(limit: int) -> RequestError:
    problem = f"the body has more than {limit} bytes"
    return RequestError(413, "body_too_large", problem, "send a smaller picture")
