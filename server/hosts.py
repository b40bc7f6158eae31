"""By which names a server may be reached.

A page of another address can let its own name point to this machine (DNS rebinding): its scripts
then speak to this server as to their own. The name stands in the header Host, and is refused here.
Addresses written as numbers cannot be rebound. Where there are keys, such a page has none, so that
names need not be known: of a machine in a network there are many.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Sequence

from vpt_edge.runtime.errors import VptError

ANY = "*"
LOCAL = "localhost"
PORT = re.compile(r":\d*$")


def read_name(host: str) -> str:
    """The name in a header Host, without port and brackets, in small letters."""
    name = host.strip().lower()
    if not name.endswith("]"):
        name = PORT.sub("", name)
    return name.removeprefix("[").removesuffix("]").removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether ``name`` is of this machine for itself alone."""
    if name == LOCAL:
        return True
    address = _read_address(name)
    return address is not None and address.is_loopback


def _read_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_own_name(host: str, local: str, allowed: Sequence[str], *, has_keys: bool) -> bool:
    """Whether a request may name the server ``host``, as its header says.

    ``local``: the address of the machine to which it came; ``allowed``: further names, "*" for any.
    """
    name = read_name(host)
    if ANY in allowed or name in allowed:
        return True
    if is_loopback(name) or name == local:
        return True
    if _read_address(local) is None or is_loopback(local):
        return False
    return has_keys or _read_address(name) is not None or name in _machine_names()


@functools.cache
def _machine_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset((name, f"{name}.local"))


def check_exposure(host: str, *, has_keys: bool, insecure: bool) -> None:
    """Raise VptError for a server that others reach and everybody may use."""
    if is_loopback(host) or has_keys or insecure:
        return
    problem = f"at {host} other machines reach the server, and there are no keys"
    raise VptError(problem, "give --api-key-file FILE, or --insecure where everybody may ask")


def client_network(address: str) -> str:
    """What counts as one client: an address, of IPv6 the 64 bits that one customer has."""
    parsed = _read_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    if parsed is None:
        return address
    return str(parsed)
