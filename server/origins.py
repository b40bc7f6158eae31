"""Pages of other addresses that may ask (CORS)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vpt_edge.runtime.errors import VptError

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s*]+", re.IGNORECASE)
SEEN = "x-request-id, retry-after"  # of a reply's headers, by the page's scripts
MAX_AGE = "600"  # seconds for which a browser asks no more


def read_origin(text: str) -> str:
    """An origin as browsers send it. Raises VptError for anything else, "*" and "null" too."""
    origin = text.rstrip("/").lower()
    if not ORIGIN.fullmatch(origin):
        problem = f"{text!r} is not the origin of a page"
        raise VptError(problem, "name each one, as https://home.example:8123")
    return origin


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a page of ``origin`` is this server's own: it is asked by the same name and port."""
    return origin.lower().partition("://")[2] == host.lower()


def cors_headers(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """What lets the page's scripts read a reply, where it is allowed to."""
    if not allowed:
        return {}
    headers = {"Vary": "Origin"}
    if origin is not None and origin.lower() in allowed:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = SEEN
    return headers


def preflight_headers(asked: str) -> dict[str, str]:
    """What an allowed page may do; ``asked``: the headers that it wants to send."""
    headers = {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Max-Age": MAX_AGE}
    if asked:
        headers["Access-Control-Allow-Headers"] = asked
    return headers
