"""The sockets at which a server is reached."""

from __future__ import annotations

import errno
import socket
from typing import Any

from vpt_edge.runtime.errors import VptError

ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
BACKLOG = 128  # connections that wait to be accepted
OPTIONS = "vpt-serve --port N, vpt-watch --listen 127.0.0.1:N"


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at ``port`` of each address of ``host``; 0 is a port that is free.

    Raises VptError where that cannot be.
    """
    if not 0 <= port <= 65535:
        raise VptError(f"the port is {port}, expected 0 to 65535")
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise VptError(
            f"the host {host!r} is not known", "give an address of this machine"
        ) from None
    sockets = list[socket.socket]()
    absent = None
    for family, place in {(family, place): None for family, _, _, _, place in places}:
        try:
            listener = _listen(family, (place[0], port, *place[2:]))
        except OSError as error:
            refusal = _refusal(error, str(place[0]), port)
            if error.errno in ABSENT:  # of the two addresses of localhost one may be missing
                absent = refusal
                continue
            close_sockets(sockets)
            raise refusal from error
        sockets.append(listener)
        port = listener.getsockname()[1]
    if absent is not None and not sockets:
        raise absent
    return sockets


def close_sockets(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _listen(family: socket.AddressFamily, place: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Its connections inherit it: without, a body waits 40 ms until its head is acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _refusal(error: OSError, address: str, port: int) -> VptError:
    if error.errno == errno.EADDRINUSE:
        return VptError(f"the port {port} of {address} is in use", f"give another one: {OPTIONS}")
    if error.errno == errno.EACCES:
        problem = f"the port {port} of {address} is not for every user"
        return VptError(problem, f"give one above 1023: {OPTIONS}")
    if error.errno == errno.EADDRNOTAVAIL:
        problem = f"{address} is not an address of this machine"
        return VptError(problem, "give one of its own: --host ADDRESS")
    return VptError(f"cannot listen at port {port} of {address}: {error.strerror}")
