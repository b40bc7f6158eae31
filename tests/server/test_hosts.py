from __future__ import annotations

import socket

import pytest

from vpt_edge.runtime import VptError
from vpt_edge.server.hosts import check_exposure, client_network, is_own_name, read_name

LOOPBACK = "127.0.0.1"
NETWORK = "192.168.1.5"
MACHINE = socket.gethostname()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost.:8000", "localhost"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::1]:8000", "::1"),
        ("a.example:", "a.example"),
        ("", ""),
    ],
)
def test_a_name_is_read(host: str, name: str) -> None:
    assert read_name(host) == name


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1", "127.8.9.1:1", "[::1]:8000", "[::ffff:127.0.0.1]"]
)
@pytest.mark.parametrize("has_keys", [True, False])
def test_a_machine_by_itself_is_reached_by_its_own_names(host: str, has_keys: bool) -> None:
    assert is_own_name(host, LOOPBACK, (), has_keys=has_keys)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("", "192.168.1.5", "0.0.0.0", "127.1", "2130706433", "localhost@evil.example"),
        *("[::1].evil.example", "[::1]evil.example", "evil.example#[::1]", MACHINE),
    ],
)
@pytest.mark.parametrize("has_keys", [True, False])
def test_and_by_no_other(host: str, has_keys: bool) -> None:
    assert not is_own_name(host, LOOPBACK, (), has_keys=has_keys)


def test_an_operator_allows_a_name() -> None:
    assert is_own_name("Vpt.Example:443", LOOPBACK, ("vpt.example",), has_keys=False)
    assert not is_own_name("vpt.example.evil", LOOPBACK, ("vpt.example",), has_keys=False)
    assert is_own_name("whatever", LOOPBACK, ("*",), has_keys=False)


def test_in_a_network_any_name_is_good_with_keys() -> None:
    """A page that has rebound its name has no key."""
    assert is_own_name("evil.example", NETWORK, (), has_keys=True)


@pytest.mark.parametrize(
    "host", [NETWORK, "10.0.0.1:8000", "[fe80::1]", MACHINE, f"{MACHINE}.local"]
)
def test_in_a_network_without_keys_only_what_cannot_be_rebound(host: str) -> None:
    assert is_own_name(host, NETWORK, (), has_keys=False)
    assert not is_own_name("evil.example", NETWORK, (), has_keys=False)


def test_behind_a_socket_of_unix_only_what_is_allowed() -> None:
    assert not is_own_name("evil.example", "/run/vpt.sock", (), has_keys=True)
    assert is_own_name("vpt.example", "/run/vpt.sock", ("vpt.example",), has_keys=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "door.example", ""])
def test_a_server_for_others_needs_keys(host: str) -> None:
    with pytest.raises(VptError, match="--api-key-file FILE, or --insecure"):
        check_exposure(host, has_keys=False, insecure=False)
    check_exposure(host, has_keys=True, insecure=False)
    check_exposure(host, has_keys=False, insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_one_for_itself_needs_none(host: str) -> None:
    check_exposure(host, has_keys=False, insecure=False)


def test_one_customer_is_one_client() -> None:
    assert client_network("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert client_network("2001:db8:1:2:9::9") == "2001:db8:1:2::/64"
    assert client_network("::ffff:10.0.0.1") == "10.0.0.1"
    assert client_network("10.0.0.1") == "10.0.0.1"
    assert client_network("testclient") == "testclient"
