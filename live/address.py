"""Addresses of the network, and what of them may be shown."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from vpt_edge.runtime.errors import SourceError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]@]+)(?::(\d{1,5}))?")
PORTS = 65535
QUOTING = "write @ : / ? # in a user name or password as %40 %3A %2F %3F %23"
HIDDEN = "***"
# Cameras that take no user before the @ have the password in the path or the query.
SECRET = re.compile(
    r"(\b|_)(user\w*?|usr|login|account|pass\w*?|pwd|psw|token|auth\w*?|key|api_?key|secret"
    r"|sig\w*?)=[^/]*",
    re.IGNORECASE,
)
# Of a query, what tells one stream of a camera from another; anything else may be a secret.
TELLING = {"camera", "channel", "fps", "profile", "rate", "resolution", "stream", "subtype"}
TELLING_VALUE = re.compile(r"[\w.:-]{1,12}")


@dataclass(frozen=True, repr=False)
class Address:
    """Where a stream is. As text, and as a repr, it is without user and password.

    ``user`` and ``password`` as the camera knows them, ``host`` with its port, ``path`` from its
    slash on, ``query`` as it was given.
    """

    scheme: str
    user: bytes
    password: bytes
    host: str
    path: str
    query: tuple[str, ...]

    def __str__(self) -> str:
        path = SECRET.sub(rf"\1\2={HIDDEN}", self.path.partition("#")[0])
        text = f"{self.scheme}://{self.host}{path}"
        if not self.query:
            return text
        return f"{text}?{'&'.join(map(_mask_parameter, self.query))}"

    __repr__ = __str__

    def take(self, name: str) -> tuple[str | None, Address]:
        """The value of a parameter of the query that is ours, and the address without it."""
        value = None
        rest = list[str]()
        for parameter in self.query:
            key, _, text = parameter.partition("=")
            if key == name:
                value = text
            else:
                rest.append(parameter)
        return value, dataclasses.replace(self, query=tuple(rest))

    def url(self) -> str:
        """The whole of it, with the password: for the decoder alone."""
        login = ""
        if self.user or self.password:
            login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@"
        url = f"{self.scheme}://{login}{self.host}{self.path}"
        if not self.query:
            return url
        return f"{url}?{'&'.join(self.query)}"


def parse_address(text: str) -> Address:
    """Understand ``scheme://user:password@host:port/path?query``.

    User and password may be percent-encoded, and must be where they hold ``/ ? #``. Raises
    SourceError, whose text quotes nothing that may be a part of them.
    """
    match = SCHEME.fullmatch(text)
    if match is None:
        raise SourceError("the address has no scheme, expected rtsp://host/path or the like")
    scheme = match[1].lower()
    authority, tail = _split(match[2], "/?#")
    if "@" in tail:
        fix = f"{QUOTING}, and an @ of its path as %40"
        raise SourceError(f"the {scheme}:// address has an @ behind its host", fix)
    login, _, host = authority.rpartition("@")
    _check_host(scheme, host)
    user, _, password = login.partition(":")
    path, query = _split(tail, "?")
    parameters = tuple(filter(None, query[1:].split("&")))
    return Address(
        scheme, unquote_to_bytes(user), unquote_to_bytes(password), host, path, parameters
    )


def mask(text: str) -> str:
    """A text of whatever kind, without what stands before an @ or behind a "password="."""
    _, at, rest = text.rpartition("@")
    if at:
        text = f"{HIDDEN}@{rest}"
    return SECRET.sub(rf"\1\2={HIDDEN}", text)


def _split(text: str, marks: str) -> tuple[str, str]:
    """``text`` before the first of ``marks``, and from it on."""
    match = re.search(f"[{marks}]", text)
    end = len(text)
    if match is not None:
        end = match.start()
    return text[:end], text[end:]


def _check_host(scheme: str, host: str) -> None:
    match = HOST.fullmatch(host)
    if not host:
        raise SourceError(f"the {scheme}:// address has no host, expected {scheme}://host/path")
    if match is None or int(match[2] or 0) > PORTS:
        problem = f"the host of the {scheme}:// address is not a name with or without a port"
        raise SourceError(problem, QUOTING)


def _mask_parameter(parameter: str) -> str:
    key, equals, value = parameter.partition("=")
    if key in TELLING and TELLING_VALUE.fullmatch(value):
        return parameter
    if equals and SECRET.fullmatch(f"{key}={HIDDEN}"):
        return f"{key}={HIDDEN}"
    return HIDDEN
