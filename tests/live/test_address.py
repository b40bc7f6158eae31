"""An address is understood, and nothing that is shown of it is secret."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vpt_edge.live.address import mask, parse_address
from vpt_edge.runtime.errors import SourceError

# No text of ours has the marks, so that a part of a secret is found wherever it is.
MARKS = ("QZQ", "ZQZ")
SECRETS = st.text(min_size=1, max_size=12).map(lambda text: f"{MARKS[0]}{text}{MARKS[1]}")


def shown(text: str) -> str:
    """All that is shown of an address: its text, or its error with what caused that."""
    try:
        address = parse_address(text)
    except SourceError as error:
        chain = (error, error.__cause__, error.__context__)
        return " ".join([*map(repr, chain), *traceback.format_exception(error)])
    return f"{address} {address!r} {[address]} {address.scheme} {address.host}"


@pytest.mark.parametrize(
    ("text", "name", "url"),
    [
        ("rtsp://cam/stream", "rtsp://cam/stream", "rtsp://cam/stream"),
        ("RTSP://cam:8554", "rtsp://cam:8554", "rtsp://cam:8554"),
        ("rtsp://u:p@cam/s", "rtsp://cam/s", "rtsp://u:p@cam/s"),
        (
            "rtsp://u:p%40%2f@[fe80::1]:5/s",
            "rtsp://[fe80::1]:5/s",
            "rtsp://u:p%40%2F@[fe80::1]:5/s",
        ),
        ("rtsp://u:p@:x@cam/s", "rtsp://cam/s", "rtsp://u:p%40%3Ax@cam/s"),
        ("rtsp://u@cam/s", "rtsp://cam/s", "rtsp://u:@cam/s"),
        ("rtsp://u:5%@cam/s", "rtsp://cam/s", "rtsp://u:5%25@cam/s"),
        ("rtsp://u:%ff@cam/s", "rtsp://cam/s", "rtsp://u:%FF@cam/s"),
        (
            "rtsp://cam/real?channel=1&subtype=0",
            "rtsp://cam/real?channel=1&subtype=0",
            "rtsp://cam/real?channel=1&subtype=0",
        ),
        (
            "http://cam/v?pwd=abc&rate=5",
            "http://cam/v?pwd=***&rate=5",
            "http://cam/v?pwd=abc&rate=5",
        ),
        ("http://cam/v?abc", "http://cam/v?***", "http://cam/v?abc"),
        (
            "rtsp://cam/user=admin_password=abc_channel=1.sdp",
            "rtsp://cam/user=***",
            "rtsp://cam/user=admin_password=abc_channel=1.sdp",
        ),
        ("http://cam/a#b", "http://cam/a", "http://cam/a#b"),
    ],
)
def test_what_is_shown_and_what_is_opened(text: str, name: str, url: str) -> None:
    address = parse_address(text)
    assert str(address) == repr(address) == name
    assert address.url() == url


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://user:pa/ss@cam/stream",
        "rtsp://user:pa?ss@cam/stream",
        "rtsp://user:pa#ss@cam/stream",
        "rtsp://user:12/34@cam/stream",
        "rtsp://user:p@ss/word@cam/stream",
    ],
)
def test_a_password_that_must_be_quoted_is_said(text: str) -> None:
    with pytest.raises(SourceError, match="%40 %3A %2F %3F %23") as failure:
        parse_address(text)
    for part in ("user", "pa", "12", "34", "p@", "word"):
        assert f"{part}/" not in str(failure.value) and f":{part}" not in str(failure.value)


@pytest.mark.parametrize("text", ["rtsp:///stream", "rtsp://", "rtsp://u:p@/x"])
def test_an_address_without_a_host_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="no host"):
        parse_address(text)


@pytest.mark.parametrize("host", ["cam:port", "cam:99999", "cam:", "a b", "[::1", "user:secret"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(SourceError, match="host of the rtsp:// address") as failure:
        parse_address(f"rtsp://{host}/x")
    assert host not in str(failure.value)


@given(SECRETS, SECRETS)
@example("QZQa@bZQZ", "QZQ:/?#@ZQZ")
def test_no_secret_is_shown(user: str, password: str) -> None:
    for secret in (user, quote(user), quote(user, safe="")):
        for word in (password, quote(password), quote(password, safe="")):
            for rest in ("cam/stream", "cam:554/x?channel=1", "", "/", "cam"):
                text = shown(f"rtsp://{secret}:{word}@{rest}")
                assert not any(mark in text for mark in MARKS), text


@given(SECRETS)
def test_no_secret_of_a_query_is_shown(secret: str) -> None:
    for place in (f"?pwd={secret}", f"?{secret}", f"?a={secret}&channel=2", f"/password={secret}"):
        text = shown(f"http://cam/video{place}")
        assert "QZQ" not in text, text


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_the_decoder_gets_what_was_given(user: bytes, password: bytes) -> None:
    text = f"rtsp://{quote(user, safe='')}:{quote(password, safe='')}@cam/stream"
    address = parse_address(text)
    assert (address.user, address.password) == (user, password)
    expected = text
    if not user and not password:
        expected = "rtsp://cam/stream"
    assert address.url() == expected


@given(SECRETS)
def test_any_text_is_masked(secret: str) -> None:
    for text in (f"rtsp:/u:{secret}@cam", f"{secret}@cam", f"src password={secret}"):
        assert "QZQ" not in mask(text)
