"""From where pictures are fetched."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = {"http": 80, "https": 443}
VISIBLE = re.compile(r"[\x21-\x7e]{1,2048}")
HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # IPv4 behind a translator: RFC 6052
# Public by their numbers, and answered by a cloud's own machine: of Azure.
METADATA = {"168.63.129.16"}


@dataclass(frozen=True)
class Place:
    """Where an address points; ``target``: its path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and port, as a request names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port == PORTS[self.scheme]:
            return host
        return f"{host}:{self.port}"


def parse_place(address: str) -> Place:
    """Raises ValueError for what is not an address of http or https, or holds a password."""
    if not VISIBLE.fullmatch(address):
        raise ValueError
    parts = urlsplit(address)
    if parts.scheme not in PORTS or "@" in parts.netloc:
        raise ValueError
    host = _parse_host(parts.hostname or "")
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    target = parts.path or "/"
    if parts.query:
        target = f"{target}?{parts.query}"
    return Place(parts.scheme, host, port, target)


def _parse_host(host: str) -> str:
    """A name in small letters, or an address of IPv4 or IPv6. Raises ValueError."""
    if "%" in host:  # an interface of this machine
        raise ValueError
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    name = host.lower().removesuffix(".")
    if not HOST.fullmatch(name):
        raise ValueError
    return name


@dataclass(frozen=True)
class Rule:
    """A host that is allowed, at ``port``, None: at that of the address's scheme.

    ``host`` may begin with "*.": any name below.
    """

    host: str
    port: int | None

    def allows(self, place: Place) -> bool:
        port = PORTS[place.scheme] if self.port is None else self.port
        if self.host.startswith("*."):
            return place.port == port and place.host.endswith(self.host[1:])
        return place.port == port and place.host == self.host


def parse_rule(text: str) -> Rule:
    """The rule HOST, HOST:PORT or *.HOST. Raises VptError."""
    wildcard = ""
    name = text
    if text.startswith("*."):
        wildcard = "*."
        name = text[2:]
    if name.count(":") > 1 and not name.startswith("["):
        name = f"[{name}]"
    try:
        parts = urlsplit(f"//{name}")
        host = _parse_host(parts.hostname or "")
        if parts.netloc != name or "@" in name:
            raise ValueError
        return Rule(wildcard + host, parts.port)
    except ValueError:
        problem = f"{text!r} is not a host from which pictures may be fetched"
        fix = "expected HOST, HOST:PORT or *.HOST, without http:// and path"
        raise VptError(problem, fix) from None


class FetchRules:
    """The ``hosts`` from which an operator lets pictures be fetched.

    Raises VptError for what is not a host.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._rules = [parse_rule(host) for host in hosts]

    def allows(self, place: Place) -> bool:
        return any(rule.allows(place) for rule in self._rules)

    def reachable(self, place: Place, addresses: Sequence[str]) -> list[str]:
        """Those of the ``addresses`` of its host to which it may be connected: public ones.

        One of this machine or of the local network only where a rule names that very address, or
        localhost.
        """
        return [address for address in addresses if self._may_reach(place, address)]

    def _may_reach(self, place: Place, text: str) -> bool:
        address = ipaddress.ip_address(text)
        if place.host == "localhost":
            return address.is_loopback
        if is_public(address):
            return True
        named = Place(place.scheme, str(address), place.port, place.target)
        return any(rule.host == named.host and rule.allows(named) for rule in self._rules)


def is_public(address: Address) -> bool:
    """Whether ``address`` is a machine's in the internet, and not one that is nearer than that."""
    inner = address
    if isinstance(address, ipaddress.IPv6Address):
        if address.teredo is not None or address.is_site_local:
            return False
        inner = _embedded(address) or address
    if inner.is_multicast or inner.is_reserved or str(inner) in METADATA:
        return False
    return inner.is_global


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address of IPv4 to which one of IPv6 leads."""
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
