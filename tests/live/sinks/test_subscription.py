"""What a broker hands on, and that it may refuse to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from vpt_edge.live.sinks.subscription import Subscription

if TYPE_CHECKING:
    import pytest


def begin(taken: list[bytes]) -> Client:
    """A client that is not connected."""
    client = Client(CallbackAPIVersion.VERSION2)
    Subscription("a\x1bdoor/ask", taken.append).begin(client)
    return client


def test_what_the_broker_keeps_is_not_asked() -> None:
    taken = list[bytes]()
    client = begin(taken)
    assert client.on_message is not None
    for text, is_kept in ((b"old", True), (b"new", False)):
        message = MQTTMessage()
        message.payload = text
        message.retain = is_kept
        client.on_message(client, None, message)
    assert taken == [b"new"]


def test_a_refusal_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    client = begin([])
    assert client.on_subscribe is not None
    for code in (1, 128):
        reasons = [ReasonCode(PacketTypes.SUBACK, identifier=code)]
        client.on_subscribe(client, None, 1, reasons, None)  # type: ignore[call-arg, arg-type]
    told = capsys.readouterr().err
    assert told == "the broker does not let it read a\\u001bdoor/ask: nobody can ask there\n"
