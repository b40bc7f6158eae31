"""A webhook's address is understood, and never shown; what it is sent can be checked."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from vpt_edge.live.sinks.endpoint import parse_endpoint, read_secret
from vpt_edge.live.sinks.webhook import Webhook, default_spool
from vpt_edge.runtime.errors import SinkError, VptError


def test_an_address() -> None:
    endpoint = parse_endpoint("HTTPS://m%65:p%40ss@Host:8443/api/ü?x=1&y=%20#z", "key")
    assert endpoint.url == "https://Host:8443/api/%C3%BC?x=1&y=%20"
    assert endpoint.login == f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert str(endpoint) == "https://Host:8443"
    assert repr(endpoint) == "Endpoint(name='https://Host:8443')"
    assert parse_endpoint("http://[::1]:80", "key").url == "http://[::1]:80/"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("host/path", "has no scheme"),
        ("ftp://s3cret@host/", "a ftp:// address is not a webhook's"),
        ("file:///etc/passwd", "has no host"),
        ("https://me:s3/cret@host/x", "has an @ behind its host"),
        ("https://" + "h" * 70 + "/s3cret", "cannot be written as one"),
        ("https://me:s3cret@host/\udcff", "cannot be written as one"),
        ("https://me:s3cret@host:99999/x", "is not a name"),
    ],
)
def test_what_is_not_one(url: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=problem) as error:
        Webhook(url, "key", tmp_path)
    assert "s3" not in str(error.value)


def test_the_signature_is_that_of_the_standard() -> None:
    """Values of https://github.com/standard-webhooks/standard-webhooks, its libraries' test."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    endpoint = parse_endpoint("https://host/", secret)
    headers = endpoint.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330.9)
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-signature"] == expected
    plain = parse_endpoint("https://host/", "1\xf6")
    assert plain.key == b"1\xc3\xb6"


@pytest.mark.parametrize(("secret", "problem"), [("", "no secret"), ("whsec_s3!", "not base64")])
def test_without_a_secret(secret: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=problem) as error:
        Webhook("https://host/", secret, tmp_path)
    assert "s3!" not in str(error.value)


def test_the_secret_of_the_environment_or_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VPT_WEBHOOK_SECRET", raising=False)
    assert read_secret() == ""
    monkeypatch.setenv("VPT_WEBHOOK_SECRET", "a b")
    assert read_secret() == "a b"
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    monkeypatch.setenv("VPT_WEBHOOK_SECRET", f"@{file}")
    assert read_secret() == "from a file"
    file.unlink()
    with pytest.raises(VptError, match=f"{file}"):
        read_secret()


def test_where_answers_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    one = parse_endpoint("https://me:old@host/a", "key")
    places = set[Path]()
    for name in ("HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv("STATE_DIRECTORY", raising=False)
        monkeypatch.setenv(name, str(tmp_path / name))
        places.add(default_spool(one))
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'STATE_DIRECTORY'}:/other")
    places.add(default_spool(parse_endpoint("https://me:new@host/a", "other")))
    assert places == {
        tmp_path / "HOME/.local/state/vpt-edge/webhook" / one.id,
        tmp_path / "XDG_STATE_HOME/vpt-edge/webhook" / one.id,
        tmp_path / "STATE_DIRECTORY/webhook" / one.id,
    }
    assert parse_endpoint("https://host/b", "key").id != one.id
