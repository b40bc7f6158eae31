"""What others publish for a watch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from vpt_edge.runtime.errors import printable

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

Take: TypeAlias = "Callable[[bytes], object]"

log = logging.getLogger("vpt_edge.live")


class Subscription:
    """Each message at ``topic`` is given to ``take``, by the thread of the connection.

    What the broker keeps there is of before, and is not.
    """

    def __init__(self, topic: str, take: Take) -> None:
        self._topic = topic
        self._take = take

    def begin(self, client: Client) -> None:
        """For one connection, as soon as the broker has greeted it."""
        client.on_message = self._receive
        client.on_subscribe = self._check
        client.subscribe(self._topic, qos=1)

    def _receive(self, client: Client, data: Any, message: MQTTMessage) -> None:
        if not message.retain:
            self._take(bytes(message.payload))

    def _check(
        self, client: Client, data: Any, number: int, reasons: Sequence[ReasonCode], rest: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            topic = printable(self._topic)
            log.warning("the broker does not let it read %s: nobody can ask there", topic)
