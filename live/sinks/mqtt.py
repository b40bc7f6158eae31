"""Messages to an MQTT broker, which may be away for a while."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from vpt_edge.live.reader import delays
from vpt_edge.live.seen import Seen, StateChange
from vpt_edge.live.sinks.broker import (
    Connection,
    Message,
    RefusalError,
    check_client,
    parse_broker,
)
from vpt_edge.live.sinks.discovery import HomeAssistant
from vpt_edge.live.sinks.jsonl import format_line
from vpt_edge.live.sinks.loss import describe_loss
from vpt_edge.live.sinks.outbox import Outbox
from vpt_edge.live.sinks.subscription import Subscription, Take
from vpt_edge.runtime.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.live.sinks.outbox import Parcel
    from vpt_edge.live.sinks.sink import Item

COUNT = 1000  # messages that wait while the broker is away
BYTES = 1 << 24
CONFIRMATION = 10.0  # seconds for the broker's word that it has a message
TRIES = 5  # of a message at which the broker hangs up
CLOSE = 4.0  # seconds for what is left at the end while the broker is away
PATIENCE = 60.0  # and while it is there
STEP = 0.1

log = logging.getLogger("vpt_edge.live")


class Mqtt:
    """Publishes to the broker ``url``, mqtt(s)://user:password@host:port/topic.

    Each answer is JSON at topic/answer, a line as of ``JsonLines``, delivered at least once: while
    the broker is away at most ``count`` of them, with BYTES, wait, and the oldest are
    ``dropped``. topic/status says "online" or "offline". Home Assistant is told of the
    ``questions`` about ``sources``, by their names, and of others when they are answered, but not
    of what was asked once. What others publish at topic/ask is given to ``take``.

    A broker that is away is tried again for ever; with one that refuses the client it is over.
    Raises SinkError for an address that is not one, and without paho-mqtt.
    """

    wants = (Seen, StateChange)

    def __init__(
        self,
        url: str,
        sources: Sequence[str] = (),
        questions: Sequence[str] = (),
        count: int = COUNT,
        take: Take | None = None,
    ) -> None:
        self._broker = parse_broker(url)
        check_client(self._broker)
        self._home: HomeAssistant | None = None
        if self._broker.discovery is not None:
            self._home = HomeAssistant(self._broker, sources, questions)
        self._subscription: Subscription | None = None
        if take is not None:
            self._subscription = Subscription(self._broker.ask, take)
        self._dropped = 0
        self._outbox = Outbox(count, BYTES)
        self._is_away = False
        self._is_refused = False
        self._is_full = False
        self._tried = -1  # the parcel that was sent last
        self._tries = 0  # of it, in vain
        self._over = threading.Event()  # no more time
        name = f"vpt-edge-{self._broker.host}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Messages that did not reach the broker; at the end, what is left counts."""
        if self._outbox.is_closing:
            return self._dropped + len(self._outbox)
        return self._dropped

    def put(self, item: Item) -> None:
        if self._is_refused:
            self._dropped += 1
            return
        messages = []
        if isinstance(item, Seen):
            line = format_line(item.to_dict()).rstrip(b"\n")
            messages.append(Message(f"{self._broker.topic}/answer", line))
        if self._home is not None:
            messages += self._home.tell(item)
        if not messages:
            return
        dropped = self._outbox.append(tuple(messages))
        if dropped and not self._is_full:
            log.warning("%s: no more messages can wait, the oldest are dropped", self._broker)
            self._is_full = True
        self._dropped += dropped

    def close(self) -> None:
        """Deliver what is left while the broker takes it, and say "offline"."""
        deadline = time.monotonic() + PATIENCE
        self._outbox.close()
        self._thread.join(CLOSE)
        while not self._is_away and self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(STEP)
        self._over.set()
        left = len(self._outbox)
        if left:
            log.warning("%s: %d messages were not delivered", self._broker, left)

    def _run(self) -> None:
        """Connect, again and again."""
        pauses = delays()
        while True:
            try:
                self._stay_connected()
                return
            except RefusalError as error:
                self._give_up(error)
                return
            except (OSError, SinkError) as error:  # such as a ca file that is being replaced
                if not self._is_away:
                    log.warning("%s: %s; messages wait", self._broker, describe_loss(error))
                    if not self._tries:  # it was there, and no answer was the reason
                        pauses = delays()
                self._is_away = True
                if not self._pause(next(pauses)):
                    return

    def _pause(self, seconds: float) -> bool:
        """Wait, but at the end try once more without; whether another try is of any use."""
        if not self._outbox.is_closing:
            self._outbox.pause(seconds)
        elif len(self._outbox):
            self._over.wait(seconds)
        return not self._outbox.is_closing or (len(self._outbox) > 0 and not self._over.is_set())

    def _stay_connected(self) -> None:
        """Until the end; raises OSError where the connection is lost before."""
        connection = Connection(self._broker, self._outbox.wake)
        try:
            self._greet(connection)
            self._serve(connection)
        except BaseException:
            connection.cut()
            raise
        connection.close()

    def _greet(self, connection: Connection) -> None:
        """What every broker is told first: one that was restarted may know nothing more."""
        if self._subscription is not None:
            connection.subscribe(self._subscription)
        connection.publish(Message(self._broker.status, b"online", True), CONFIRMATION)
        if self._home is not None:
            for message in self._home.greet():
                connection.publish(message, CONFIRMATION)
        if self._is_away:
            log.warning("%s: connected, %d messages wait", self._broker, len(self._outbox))
        self._is_away = False
        self._is_full = False

    def _serve(self, connection: Connection) -> None:
        while True:
            parcel = self._outbox.head(lambda: connection.is_lost)
            if connection.is_lost:
                raise ConnectionError("the connection was closed")
            if parcel is None:
                break
            if self._over.is_set():
                break
            self._send(connection, parcel)
        connection.publish(Message(self._broker.status, b"offline", True), CONFIRMATION)

    def _send(self, connection: Connection, parcel: Parcel) -> None:
        if parcel.number != self._tried:
            self._tries = 0
        self._tried = parcel.number
        try:
            for message in parcel.messages:
                connection.publish(message, CONFIRMATION)
        except ConnectionError:
            self._tries += 1
            if self._tries == TRIES and self._outbox.remove(parcel):
                self._dropped += 1
                text = "%s: closed the connection %d times at a message, which is dropped"
                log.warning(text, self._broker, TRIES)
            raise
        self._tries = 0
        self._outbox.remove(parcel)

    def _give_up(self, error: RefusalError) -> None:
        self._is_refused = True
        self._dropped += self._outbox.clear()
        log.error("%s; messages are dropped from now on", error)
