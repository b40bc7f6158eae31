"""Where a webhook is, and how it can tell that a message comes from here.

The headers are those of https://www.standardwebhooks.com, for which there are libraries.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib.metadata
import os
from dataclasses import dataclass, field
from urllib.parse import quote

from vpt_edge.live.address import parse_address
from vpt_edge.live.secret_file import read_address
from vpt_edge.runtime.errors import SinkError, SourceError

SCHEMES = ("http", "https")
EXPECTED = "expected https://host/path or http://host/path"
VARIABLE = "VPT_WEBHOOK_SECRET"
ENCODED = "whsec_"  # what a secret in base64 begins with
SAFE = "%/:=&?~+!$,;'()*[]@"  # in an address, what is there as it is
DIGITS = 16  # of an id


@dataclass(frozen=True)
class Endpoint:
    """As text, and as a repr, its host alone: the path of a webhook is often its password.

    ``login``: the value of the header Authorization. ``key``: what messages are signed with.
    """

    name: str
    url: str = field(repr=False)
    login: str | None = field(repr=False)
    key: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def id(self) -> str:
        """The same for the same address, of which it says nothing."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:DIGITS]

    def sign(self, number: str, body: bytes, seconds: float) -> dict[str, str]:
        """The headers of the message ``number``, sent now, ``seconds`` since 1970."""
        moment = str(int(seconds))
        signed = f"{number}.{moment}.".encode() + body
        signature = base64.b64encode(hmac.digest(self.key, signed, "sha256")).decode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"vpt-edge/{importlib.metadata.version('vpt-edge')}",
            "webhook-id": number,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{signature}",
        }
        if self.login is not None:
            headers["Authorization"] = self.login
        return headers


def parse_endpoint(url: str, secret: str) -> Endpoint:
    """Understand ``http(s)://user:password@host:port/path?query``.

    Raises SinkError, whose text quotes nothing that may be a password.
    """
    try:
        address = parse_address(url)
    except SourceError as error:
        raise SinkError(error.problem, error.fix or EXPECTED) from None
    if address.scheme not in SCHEMES:
        raise SinkError(f"a {address.scheme}:// address is not a webhook's", EXPECTED)
    path = address.path or "/"
    if address.query:
        path = f"{path}?{'&'.join(address.query)}"
    login = None
    if address.user or address.password:
        pair = address.user + b":" + address.password
        login = f"Basic {base64.b64encode(pair).decode()}"
    try:
        host = address.host.encode("idna").decode()
        path = quote(path.partition("#")[0], SAFE)
    except UnicodeError:
        raise SinkError("the webhook's address cannot be written as one", EXPECTED) from None
    name = f"{address.scheme}://{host}"
    return Endpoint(name, f"{name}{path}", login, _key(secret))


def _key(secret: str) -> bytes:
    if not secret:
        fix = f"export {VARIABLE}=… or {VARIABLE}=@FILE, and tell it the other side"
        raise SinkError("there is no secret to sign messages with", fix)
    if not secret.startswith(ENCODED):
        return secret.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(secret.removeprefix(ENCODED), validate=True)
    except binascii.Error:
        problem = f"the secret begins with {ENCODED}, but what follows is not base64"
        raise SinkError(problem, f"check {VARIABLE}") from None


def read_secret() -> str:
    """What VPT_WEBHOOK_SECRET holds, or the one line of the FILE that it names as @FILE."""
    return read_address(os.environ.get(VARIABLE, ""))
