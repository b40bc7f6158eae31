from __future__ import annotations

import ipaddress

import pytest

from vpt_edge.runtime.errors import VptError
from vpt_edge.server.fetch_rules import FetchRules, Place, is_public, parse_place, parse_rule


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",  # 8.8.8.8 behind a translator
        "2002:808:808::1",
    ],
)
def test_a_machine_in_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::"),
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00:ec2::254", "fec0::1"),
        *("169.254.169.254", "fe80::1", "fe80::1%1"),
        *("100.64.0.1", "100.100.100.200", "168.63.129.16"),
        *("224.0.0.1", "224.0.1.1", "239.255.255.250", "ff02::1", "ff0e::1"),
        *("255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1"),
        *("2002:7f00:1::1", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_what_is_nearer_than_the_internet_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("rule", "address"),
    [
        ("example.org", "http://example.org/a"),
        ("example.org", "HTTPS://EXAMPLE.org./a?b#c"),
        ("Example.ORG", "https://example.org:443"),
        ("example.org:8080", "http://example.org:8080/"),
        ("*.example.org", "https://a.b.example.org/"),
        ("*.example.org:81", "http://a.example.org:81/"),
        ("192.168.1.20", "http://192.168.1.20/"),
        ("::1", "http://[::1]/"),
        ("[::1]:8080", "http://[0:0::1]:8080/"),
        ("my_service", "http://my_service/"),
    ],
)
def test_a_rule_allows_its_host(rule: str, address: str) -> None:
    assert FetchRules([rule]).allows(parse_place(address))


@pytest.mark.parametrize(
    ("rule", "address"),
    [
        ("example.org", "http://example.org:8080/"),
        ("example.org", "http://a.example.org/"),
        ("example.org", "http://example.org.evil.org/"),
        ("example.org", "http://evilexample.org/"),
        ("example.org:443", "http://example.org/"),
        ("example.org:8080", "http://example.org/"),
        ("*.example.org", "http://example.org/"),
        ("*.example.org", "http://evilexample.org/"),
        ("127.0.0.1", "http://127.0.0.2/"),
        ("127.0.0.1", "http://0x7f.0.0.1/"),
        ("127.0.0.1", "http://localhost/"),
        ("localhost", "http://127.0.0.1/"),
    ],
)
def test_a_rule_allows_nothing_else(rule: str, address: str) -> None:
    assert not FetchRules([rule]).allows(parse_place(address))


@pytest.mark.parametrize(
    "address",
    [
        "ftp://example.org/",
        "http:///a",
        "http://",
        "example.org",
        "http://user:password@example.org/",
        "http://example.org@evil.org/",
        "http://evil.org\\@example.org/",
        "http://example.org\\.evil.org/",
        "http://example.org:99999/",
        "http://example.org:a/",
        "http://[::1/",
        "http://[fe80::1%25lo]/",
        "http://exa%6dple.org/",
        "http://bücher.example/",
        "http://example.org/a b",
        "http://example.org/\r\nX: y",
        "http://-a/",
        "http://.example.org/",
        "http://example.org/" + "a" * 3000,
    ],
)
def test_what_is_not_a_plain_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        parse_place(address)


def test_a_place_is_named_as_requests_name_it() -> None:
    assert parse_place("http://[::1]:81/a?b=c#d") == Place("http", "::1", 81, "/a?b=c")
    assert parse_place("http://[::1]:81").authority == "[::1]:81"
    assert parse_place("https://example.org:443").authority == "example.org"
    assert parse_place("http://example.org:443").authority == "example.org:443"


@pytest.mark.parametrize(
    "text",
    ["http://example.org", "example.org/a", "", "*", "*.", "a@example.org", "example.org:x", "a b"],
)
def test_what_is_not_a_host_is_refused_as_a_rule(text: str) -> None:
    with pytest.raises(VptError, match=r"expected HOST, HOST:PORT or \*\.HOST"):
        parse_rule(text)


def reachable(rules: list[str], address: str, *addresses: str) -> list[str]:
    return FetchRules(rules).reachable(parse_place(address), addresses)


def test_public_addresses_are_connected_to_and_no_others() -> None:
    both = ("10.0.0.1", "8.8.8.8", "127.0.0.1")
    assert reachable(["example.org"], "http://example.org", *both) == ["8.8.8.8"]


def test_a_local_address_takes_a_rule_that_names_it_and_the_port() -> None:
    name = "http://camera.lan:8080"
    rules = ["camera.lan:8080", "192.168.1.20:8080", "192.168.1.21"]
    assert reachable(rules, name, "192.168.1.20", "192.168.1.21") == ["192.168.1.20"]
    assert reachable(["*.lan:8080", "camera.lan:8080"], name, "192.168.1.20") == []


def test_localhost_is_this_machine_whatever_a_name_server_says() -> None:
    addresses = ("8.8.8.8", "127.0.0.1", "::1")
    assert reachable(["localhost"], "http://localhost", *addresses) == ["127.0.0.1", "::1"]
    assert reachable(["localhost", "evil.org"], "http://evil.org", "127.0.0.1") == []
