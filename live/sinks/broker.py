"""Where an MQTT broker is, and one connection to it."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from vpt_edge.live.address import parse_address
from vpt_edge.live.sinks.loss import describe_loss
from vpt_edge.runtime.errors import SinkError, SourceError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import Client
    from paho.mqtt.reasoncodes import ReasonCode

    from vpt_edge.live.address import Address
    from vpt_edge.live.sinks.subscription import Subscription

PORTS = {"mqtt": 1883, "mqtts": 8883}
EXPECTED = "expected mqtt://user:password@host:1883/topic, or mqtts:// for TLS"
PARAMETERS = ("ca", "discovery")
LONGEST = 60_000  # bytes of a topic, of MQTT's 65,535: more is put behind it
FORBIDDEN = "+#\0"  # in a topic that is published to
PREFIX = "homeassistant"  # of discovery, unless Home Assistant was told another one
GREETING = 10.0  # seconds to connect, and again for the broker's first word
KEEPALIVE = 30  # seconds between signs of life
GOODBYE = 1.0  # seconds for the last message to get out
RETRIED = ("Server unavailable", "Server busy")  # any other refusal stays one


class RefusalError(SinkError):
    """The broker does not want this client, now or later."""


class Message(NamedTuple):
    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True)
class Broker:
    """As text, and as a repr, it is without user and password.

    ``ca``: the file of the certificate authority, None for the system's. ``discovery``: the
    prefix under which Home Assistant looks for devices, None not to tell it.
    """

    host: str
    port: int
    topic: str
    tls: bool = False
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca: str | None = None
    discovery: str | None = PREFIX

    def __str__(self) -> str:
        scheme = "mqtts" if self.tls else "mqtt"
        return printable(f"{scheme}://{self.host}:{self.port}/{self.topic}")

    @property
    def status(self) -> str:
        """The topic that says "online" or "offline"."""
        return f"{self.topic}/status"

    @property
    def ask(self) -> str:
        """The topic at which others ask."""
        return f"{self.topic}/ask"


def parse_broker(url: str) -> Broker:
    """Understand ``mqtt(s)://user:password@host:port/topic?ca=FILE&discovery=PREFIX``.

    Raises SinkError, whose text quotes nothing that may be a password.
    """
    try:
        address = parse_address(url)
    except SourceError as error:
        raise SinkError(error.problem, error.fix or EXPECTED) from None
    if address.scheme not in PORTS:
        raise SinkError(f"a {address.scheme}:// address is not a broker's", EXPECTED)
    parameters = _parameters(address)
    host = urlsplit(f"//{address.host}")
    discovery: str | None = parameters.get("discovery", PREFIX)
    if discovery == "off":
        discovery = None
    else:
        check_topic(discovery or "", "discovery")
    return Broker(
        host=_host(host.hostname),
        port=host.port or PORTS[address.scheme],
        topic=_topic(address.path),
        tls=address.scheme == "mqtts",
        user=_decode(address.user, "user name"),
        password=_decode(address.password, "password"),
        ca=parameters.get("ca"),
        discovery=discovery,
    )


def _host(name: str | None) -> str:
    try:
        (name or "").encode("idna")
    except UnicodeError:
        raise SinkError("the host of the broker's address cannot be a name", EXPECTED) from None
    return name or ""


def _parameters(address: Address) -> dict[str, str]:
    parameters = dict[str, str]()
    for parameter in address.query:
        name, _, value = parameter.partition("=")
        if name not in PARAMETERS:
            problem = f"{address.scheme}:// has an unknown parameter behind its ?"
            raise SinkError(problem, f"expected {' or '.join(PARAMETERS)}")
        parameters[name] = _decode(unquote_to_bytes(value), name)
    if "ca" in parameters and address.scheme != "mqtts":
        raise SinkError("ca= names a certificate authority, which mqtt:// does not ask", EXPECTED)
    return parameters


def _topic(path: str) -> str:
    topic = _decode(unquote_to_bytes(path), "topic").strip("/")
    check_topic(topic, "topic")
    return topic


def check_topic(topic: str, name: str) -> None:
    """Raises SinkError for what nothing can be published under."""
    if not topic:
        raise SinkError(f"the broker's address has no {name}", EXPECTED)
    if topic.startswith("$") or any(letter in topic for letter in FORBIDDEN):
        problem = f"the {name} {topic!r} cannot be published to"
        raise SinkError(problem, "expected one without + and #, and without $ at its beginning")
    if len(topic.encode()) > LONGEST:
        raise SinkError(f"the {name} has more than {LONGEST} bytes")


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SinkError(f"the {name} of the broker's address is not UTF-8", EXPECTED) from None


def check_client(broker: Broker) -> None:
    """Raises SinkError where no connection could ever be made from here."""
    if importlib.util.find_spec("paho") is None:
        raise SinkError("MQTT needs paho-mqtt", "pip install 'vpt-edge[live]'")
    if broker.tls:
        _tls_context(broker)


def _tls_context(broker: Broker) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=broker.ca)
    except OSError as error:  # an SSLError is one
        fix = "expected a file of certificates in PEM"
        raise SinkError(f"cannot read {broker.ca}: {describe_loss(error)}", fix) from None


class Connection:
    """One connection, from the broker's greeting to its loss; ``lost`` is called at the latter.

    It tells the broker what to say when it is lost. Raises RefusalError, and OSError where there is
    no broker.
    """

    def __init__(self, broker: Broker, lost: Callable[[], None]) -> None:
        self._broker = broker
        self._notify = lost
        self._changed = threading.Condition()
        self._greeting: ReasonCode | None = None
        self._acknowledged = set[int]()
        self._over = False
        self._client = self._make_client()
        try:
            self._client.connect(broker.host, broker.port, KEEPALIVE)
            self._client.loop_start()
            self._await_greeting()
        except BaseException:
            self.cut()
            raise

    def _make_client(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        broker = self._broker
        client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.connect_timeout = GREETING
        if broker.user or broker.password:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set_context(_tls_context(broker))
        client.will_set(broker.status, "offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    def _await_greeting(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._greeting is not None or self._over, GREETING)
            greeting = self._greeting
        if greeting is None and self._over:
            raise ConnectionError("it closed the connection before it said anything")
        if greeting is None:
            raise TimeoutError
        if greeting.is_failure:
            reason = str(greeting)
            if reason in RETRIED:
                raise ConnectionError(reason)
            fix = "check user and password in its address, and what it allows them"
            raise RefusalError(f"{self._broker} refuses the connection: {reason}", fix)

    def _on_connect(
        self, client: Client, data: Any, flags: Any, reason: ReasonCode, rest: Any
    ) -> None:
        with self._changed:
            self._greeting = reason
            self._changed.notify_all()

    def _on_publish(
        self, client: Client, data: Any, message: int, reason: ReasonCode, rest: Any
    ) -> None:
        with self._changed:
            self._acknowledged.add(message)
            self._changed.notify_all()

    def _on_disconnect(
        self, client: Client, data: Any, flags: Any, reason: ReasonCode, rest: Any
    ) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._notify()

    @property
    def is_lost(self) -> bool:
        return self._over

    def subscribe(self, subscription: Subscription) -> None:
        subscription.begin(self._client)

    def publish(self, message: Message, seconds: float) -> None:
        """Deliver ``message``: the broker has it when this returns.

        Raises TimeoutError after ``seconds`` without its word, and ConnectionError for a loss.
        """
        topic, payload, retain = message
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        with self._changed:  # not before: the network's thread holds a lock of its own in here
            self._changed.wait_for(lambda: info.mid in self._acknowledged or self._over, seconds)
            is_delivered = info.mid in self._acknowledged
            self._acknowledged.clear()
        if is_delivered:
            return
        if self._over:
            raise ConnectionError("the connection was closed")
        raise TimeoutError

    def close(self) -> None:
        """Say goodbye; what the broker was told to say at a loss it says no more."""
        self._client.disconnect()
        with self._changed:
            self._changed.wait_for(lambda: self._over, GOODBYE)
        self.cut()

    def cut(self) -> None:
        """End it at once: the broker takes it for a loss."""
        line = self._client.socket()
        if isinstance(line, socket.socket):
            with contextlib.suppress(OSError):  # gone already
                line.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()
        # It closes its sockets when it is freed: now, and not when a circle is found.
        self._client.on_connect = None
        self._client.on_publish = None
        self._client.on_disconnect = None
