"""Pictures from other servers, within what is allowed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urljoin

import h11

from vpt_edge.runtime.source import shorten
from vpt_edge.server.errors import RequestError
from vpt_edge.server.fetch_rules import parse_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vpt_edge.server.fetch_rules import FetchRules, Place

    Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
    Connect: TypeAlias = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

SECONDS = 10.0  # for a picture, whatever it takes
AT_ONCE = 4  # the others wait: a small request may bring a large picture
REDIRECTS = 3
TRIES = 3  # addresses of one host
CHUNK = 1 << 16
MOVED = (301, 302, 303, 307, 308)
# A look-up goes on when nobody waits for it any more: in the loop's own threads those of a name
# server that is away would keep other requests waiting.
LOOK_UPS = ThreadPoolExecutor(AT_ONCE, "vpt-edge-lookup")


class FetchError(Exception):
    """Why nothing was fetched, in words that tell nothing about the network here."""


class ForbiddenError(Exception):
    """The address, or one that it leads to, is not one from which pictures are fetched."""


@dataclass(frozen=True)
class Reply:
    """``location``: where the picture is instead."""

    body: bytes
    location: str | None = None


async def resolve_host(host: str, port: int) -> list[str]:
    """The addresses of ``host``. Raises FetchError where there are none."""
    loop = asyncio.get_running_loop()
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        rows = await loop.run_in_executor(LOOK_UPS, look_up)
    except (OSError, UnicodeError):
        raise FetchError("its host is not found") from None
    return [str(row[4][0]) for row in rows]


class Fetcher:
    """Fetches pictures of at most ``limit`` bytes from where ``rules`` allow it.

    A host's addresses are looked up once, and what was checked is what it connects to. Redirects
    are followed by the same rules. Proxies that the environment names are not used.
    """

    def __init__(
        self,
        rules: FetchRules,
        limit: int,
        seconds: float = SECONDS,
        resolve: Resolve = resolve_host,
        connect: Connect = asyncio.open_connection,
    ) -> None:
        self._rules = rules
        self._limit = limit
        self._seconds = seconds
        self._resolve = resolve
        self._connect = connect
        self._slots = asyncio.Semaphore(AT_ONCE)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def fetch(self, address: str) -> bytes:
        """The file at ``address``. Raises RequestError."""
        shown = shorten(address)
        try:
            return await asyncio.wait_for(self._fetch(address), self._seconds)
        except ForbiddenError:
            problem = f"{shown} is not where this server fetches pictures, or leads elsewhere"
            fix = "send the file itself, or let vpt-serve fetch from there: --allow-urls HOST"
            raise RequestError(400, "invalid_image_url", problem, fix, param="messages") from None
        except asyncio.TimeoutError:
            reason = f"it did not come within {self._seconds:g} seconds"
        except FetchError as error:
            reason = str(error)
        problem = f"{shown} cannot be fetched: {reason}"
        raise RequestError(400, "image_fetch_failed", problem, param="messages")

    async def _fetch(self, address: str) -> bytes:
        async with self._slots:
            for _ in range(1 + REDIRECTS):
                place = self._check(address)
                reply = await self._get(place)
                if reply.location is None:
                    return reply.body
                address = _follow(address, reply.location)
            raise FetchError(f"it was moved more than {REDIRECTS} times")

    def _check(self, address: str) -> Place:
        """Where ``address`` points. Raises ForbiddenError unless that is allowed."""
        try:
            place = parse_place(address)
        except ValueError:
            raise ForbiddenError from None
        if not self._rules.allows(place):
            raise ForbiddenError
        return place

    async def _get(self, place: Place) -> Reply:
        addresses = self._rules.reachable(place, await self._resolve(place.host, place.port))
        if not addresses:
            raise ForbiddenError
        reader, writer = await self._open(place, addresses)
        try:
            return await _Exchange(reader, self._limit).run(writer, place)
        except OSError:
            raise FetchError("the connection broke") from None
        except h11.ProtocolError:
            raise FetchError("the reply is not whole, or not HTTP") from None
        finally:
            writer.transport.abort()

    async def _open(
        self, place: Place, addresses: list[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first of ``addresses`` that answers; a certificate is the host's."""
        options = dict[str, object]()
        if place.scheme == "https":
            options = {"ssl": self._tls, "server_hostname": place.host}
        for address in addresses[:TRIES]:
            try:
                return await self._connect(address, place.port, **options)
            except ssl.SSLCertVerificationError:
                raise FetchError("its server has no valid certificate") from None
            except OSError:
                continue
        raise FetchError("its server does not answer")


def _follow(address: str, location: str) -> str:
    """The address to which a reply from ``address`` leads."""
    try:
        return urljoin(address, location)
    except ValueError:
        raise FetchError("its server replied with a redirect to nowhere") from None


class _Exchange:
    """One request for a picture, and the reply."""

    def __init__(self, reader: asyncio.StreamReader, limit: int) -> None:
        self._reader = reader
        self._limit = limit
        self._connection = h11.Connection(h11.CLIENT)

    async def run(self, writer: asyncio.StreamWriter, place: Place) -> Reply:
        headers = [
            ("Host", place.authority),
            ("User-Agent", "vpt-edge"),
            ("Accept", "image/*"),
            ("Accept-Encoding", "identity"),  # what is packed may unfold to anything
            ("Connection", "close"),
        ]
        request = h11.Request(method="GET", target=place.target, headers=headers)
        for event in (request, h11.EndOfMessage()):
            writer.write(self._connection.send(event) or b"")
        await writer.drain()
        head = await self._next()
        while isinstance(head, h11.InformationalResponse):
            head = await self._next()
        assert isinstance(head, h11.Response)
        fields = {name.lower(): value.decode("latin-1") for name, value in head.headers}
        if head.status_code in MOVED and b"location" in fields:
            return Reply(b"", fields[b"location"])
        if head.status_code != 200:
            raise FetchError(f"its server replied {head.status_code}")
        if fields.get(b"content-encoding", "identity").lower() != "identity":
            raise FetchError("it came packed, which was not asked for")
        return Reply(await self._read_body())

    async def _read_body(self) -> bytes:
        body = bytearray()
        while True:
            event = await self._next()
            if not isinstance(event, h11.Data):
                return bytes(body)
            body += event.data
            if len(body) > self._limit:
                raise FetchError(f"it has more than {self._limit} bytes")

    async def _next(self) -> h11.Event:
        """The next event. Raises h11's error where the connection ends before it."""
        while True:
            event = self._connection.next_event()
            if event is not h11.NEED_DATA:
                assert not isinstance(event, type)  # PAUSED: only behind the end
                return event
            self._connection.receive_data(await self._reader.read(CHUNK))
