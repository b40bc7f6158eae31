"""A broker's address is understood, and never shown with its password."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpt_edge.live.sinks.broker import Broker, check_client, parse_broker
from vpt_edge.live.sinks.mqtt import Mqtt
from vpt_edge.runtime.errors import SinkError

QUOTED = "mqtts://us%65r:s%3Acr%40t@Broker.local/a%20b/%C3%BC"


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("mqtt://host/door", Broker("host", 1883, "door")),
        ("MQTTS://[::1]/a/b", Broker("::1", 8883, "a/b", tls=True)),
        ("mqtt://u:p@host:1/x/", Broker("host", 1, "x", user="u", password="p")),
        ("mqtts://h/x?ca=/a%20b", Broker("h", 8883, "x", tls=True, ca="/a b")),
        ("mqtt://h/x?discovery=off", Broker("h", 1883, "x", discovery=None)),
        ("mqtt://h/x?discovery=ha/beta", Broker("h", 1883, "x", discovery="ha/beta")),
        (QUOTED, Broker("broker.local", 8883, "a b/ü", True, "user", "s:cr@t")),
    ],
)
def test_an_address(url: str, broker: Broker) -> None:
    assert parse_broker(url) == broker
    assert parse_broker(url).password == broker.password


def test_it_is_shown_without_the_password() -> None:
    broker = parse_broker(QUOTED)
    for text in (str(broker), repr(broker)):
        assert "s:cr@t" not in text and "user" not in text.replace("user=", "")
    assert str(broker) == "mqtts://broker.local:8883/a b/ü"
    assert str(parse_broker("mqtt://h/a%1B[2Jb")) == "mqtt://h:1883/a\\u001b[2Jb"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("door", "has no scheme"),
        ("mqtt://", "has no host"),
        ("http://s3cret@h/x", "a http:// address is not a broker's"),
        ("mqtt://me:s3cret@h", "has no topic"),
        ("mqtt://me:s3cret@h//", "has no topic"),
        ("mqtt://me:s3cret@h/a/%23", "'a/#' cannot be published to"),
        ("mqtt://me:s3cret@h/a/#", "'a/#' cannot be published to"),
        ("mqtt://me:s3cret@h/+/b", "cannot be published to"),
        ("mqtt://me:s3cret@h/$SYS/b", "cannot be published to"),
        ("mqtt://me:s3cret@h/a%00", "cannot be published to"),
        ("mqtt://me:s3cret@h/%FF", "the topic of the broker's address is not UTF-8"),
        ("mqtt://me:%FFs3cret@h/x", "the password of the broker's address is not UTF-8"),
        ("mqtt://me:s3cret@h/" + "x" * 70_000, "more than 60000 bytes"),
        ("mqtt://me:s3cret@h/x?s3cret=1", "has an unknown parameter"),
        ("mqtt://me:s3cret@h/x?ca=/file", "mqtt:// does not ask"),
        ("mqtt://me:s3cret@h/x?discovery=", "has no discovery"),
        ("mqtt://me:s3cret@h/x?discovery=%23", "'#' cannot be published to"),
        ("mqtt://me:s3cret@" + "h" * 70 + "/x", "cannot be a name"),
        ("mqtt://me:s3/cret@h/x", "@"),
    ],
)
def test_what_is_not_one(url: str, problem: str) -> None:
    with pytest.raises(SinkError, match=problem.replace("+", r"\+")) as error:
        Mqtt(url)
    assert "s3" not in str(error.value)


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for text in (None, "nothing"):
        if text is not None:
            file.write_text(text)
        with pytest.raises(SinkError, match=f"cannot read {file}: "):
            Mqtt(f"mqtts://h/x?ca={file}")


def test_without_paho(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SinkError, match=r"needs paho-mqtt; pip install 'vpt-edge\[live\]'"):
        check_client(Broker("h", 1883, "x"))
