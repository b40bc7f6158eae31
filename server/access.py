"""Who may ask: keys, names, pages; and the number by which a request is found again."""

from __future__ import annotations

import logging
import re
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from vpt_edge.server.body_budget import BodyBudget
from vpt_edge.server.error_reply import UNCLEAR, reply_with
from vpt_edge.server.errors import RequestError, as_request_error
from vpt_edge.server.hosts import client_network, is_own_name
from vpt_edge.server.keys import Keys
from vpt_edge.server.origins import cors_headers, is_same_origin, preflight_headers
from vpt_edge.server.request_id import set_request_id
from vpt_edge.server.route_path import route_path

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vpt_edge.server.settings import Settings

HEALTH = frozenset(("/health", "/readyz"))
PAGE = re.compile(r"/(?:page/[\w.-]+)?")  # without a key: it asks for one
LONGEST_HEAD = 16384  # bytes
READING = frozenset(("GET", "HEAD"))
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",  # a picture of a camera in another page
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
logger = logging.getLogger(__name__)


class Access:
    """Lets requests through to ``app`` that may be answered, each with an id and a client's name.

    The name is the place of its key among the keys, or the address from which it comes.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._keys = Keys(settings.keys)
        self._running = 0
        self._bodies = BodyBudget(settings.max_bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number = uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["id"] = number
        set_request_id(number)
        state["client"] = _peer(scope)
        headers = Headers(scope=scope)
        allowed = cors_headers(headers.get("origin"), self._settings.origins)
        added = {**HEADERS, **allowed, "x-request-id": number}
        reply = Reply(send, added)
        body = self._bodies.count(receive)
        self._running += 1
        try:
            app = self._admit(scope, headers)
            await app(scope, body.receive, reply.send)
        except RequestError as error:
            await reply_with(error, route_path(scope))(scope, receive, reply.send)
        except Exception as error:
            logger.exception("request %s failed", number)
            if reply.started:
                raise
            await reply_with(as_request_error(error), route_path(scope))(scope, receive, reply.send)
        finally:
            self._running -= 1
            body.release()

    def _admit(self, scope: Scope, headers: Headers) -> ASGIApp:
        """What answers the request. Raises RequestError where it is refused."""
        self._check_room(scope)
        _check_head(scope, headers)
        self._check_host(scope, headers)
        preflight = self._check_origin(scope, headers)
        if preflight is not None:
            return preflight
        self._check_key(scope, headers)
        return self._app

    def _check_room(self, scope: Scope) -> None:
        if self._running > self._settings.max_connections and route_path(scope) not in HEALTH:
            problem = f"the server is busy: {self._settings.max_connections} requests are open"
            raise RequestError(503, "too_many_connections", problem, "ask later", retry_after=2.0)

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        local, *_ = scope.get("server") or ("",)
        names = self._settings.hosts
        if len(hosts) == 1 and is_own_name(hosts[0], local, names, has_keys=bool(self._keys)):
            return
        shown = ", ".join(hosts)[:80]
        problem = f"this server is not reached as {shown!r}"
        fix = "ask it by its address; vpt-serve --allow-host NAME allows a name"
        raise RequestError(403, "host_not_allowed", problem, fix)

    def _check_origin(self, scope: Scope, headers: Headers) -> Response | None:
        """What answers a page that asks whether it may ask. Raises RequestError for a foreign page
        that does.
        """
        origin = headers.get("origin")
        if origin is None or is_same_origin(origin, headers["host"]):
            return None
        is_allowed = origin.lower() in self._settings.origins
        if is_allowed and scope["method"] == "OPTIONS":
            asked = headers.get("access-control-request-headers", "")
            return Response(status_code=204, headers=preflight_headers(asked))
        if is_allowed or scope["method"] in READING:
            return None  # a browser keeps the reply from a foreign page
        problem = f"pages of {origin[:80]!r} may not ask"
        fix = "vpt-serve --allow-origin ORIGIN allows its pages"
        raise RequestError(403, "origin_not_allowed", problem, fix)

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        if not self._keys:
            return
        place = self._keys.find(headers.get("authorization", ""))
        if place is not None:
            scope["state"]["client"] = f"key {place}"
            return
        if _is_open(route_path(scope)) and scope["method"] in READING:
            return
        problem = "the API key is not one of this server's"
        if "authorization" not in headers:
            problem = "there is no API key"
        raise RequestError(401, "invalid_api_key", problem, "send Authorization: Bearer KEY")


class Reply:
    """The way to the client, on which ``headers`` are added where the reply has not its own."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self.started = False
        self._send = send
        self._headers = headers

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)


def _is_open(path: str) -> bool:
    """Whether nobody needs a key to read it."""
    return path in HEALTH or PAGE.fullmatch(path) is not None


def _check_head(scope: Scope, headers: Headers) -> None:
    """Refuse one that is too long, and one that two programs may read as two different requests
    (smuggling).
    """
    sizes = [len(name) + len(value) for name, value in scope["headers"]]
    if sum(sizes) + len(scope["path"]) + len(scope.get("query_string", b"")) > LONGEST_HEAD:
        problem = f"the request's head has more than {LONGEST_HEAD} bytes"
        raise RequestError(431, "head_too_large", problem)
    if "transfer-encoding" in headers and "content-length" in headers:
        problem = "the request has Content-Length and Transfer-Encoding, expected one of them"
        raise RequestError(400, UNCLEAR, problem)


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    if client is None:
        return "unknown"
    return client_network(client[0])
