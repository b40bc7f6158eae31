from __future__ import annotations

import socket

import pytest

from vpt_edge.runtime import VptError
from vpt_edge.server.listening_sockets import close_sockets, open_sockets


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("192.0.2.1", 0, "is not an address of this machine"),
        ("no.such.host.invalid", 0, "the host 'no.such.host.invalid' is not known"),
        ("\u00e4" * 70, 0, "is not known"),
        ("127.0.0.1", 65536, "the port is 65536, expected 0 to 65535"),
        ("127.0.0.1", -1, "the port is -1"),
    ],
)
def test_where_it_cannot_listen_is_told(host: str, port: int, text: str) -> None:
    with pytest.raises(VptError, match=text):
        open_sockets(host, port)


def test_a_port_in_use_is_told_with_the_options_of_both_commands() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(VptError) as raised:
        open_sockets("127.0.0.1", other.getsockname()[1])
    assert "vpt-serve --port N" in str(raised.value)
    assert "vpt-watch --listen 127.0.0.1:N" in str(raised.value)


def test_localhost_is_one_port_of_both_kinds_of_address() -> None:
    sockets = open_sockets("localhost", 0)
    assert len({each.getsockname()[1] for each in sockets}) == 1
    close_sockets(sockets)


def test_one_of_two_addresses_in_use_is_told_and_the_other_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(VptError, match=f"the port {port} of 127.0.0.1 is in use"):
            open_sockets("localhost", port)
        if socket.has_ipv6:
            with socket.socket(socket.AF_INET6) as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind(("::1", port))


def test_what_is_written_goes_at_once() -> None:
    (listener,) = open_sockets("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
