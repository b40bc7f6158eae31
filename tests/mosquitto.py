"""A real MQTT broker on this machine, and somebody who listens."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PASSWORDS = shutil.which("mosquitto_passwd")
needs_mosquitto = pytest.mark.skipif(
    PROGRAM is None or PASSWORDS is None,
    reason="mosquitto is missing: apt-get install mosquitto",
)
PATIENCE = 20.0  # seconds, where something is sure to come


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


class Mosquitto:
    """A broker at 127.0.0.1:``port``, with ``lines`` of its configuration besides.

    It remembers whoever subscribed, so that nothing is lost to them while it is away.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        store = folder / "store"
        store.mkdir()
        self._stored = store / "all"
        settings = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {store}/",
            "persistence_file all",
            "user root",
            *lines,
        ]
        self._config.write_text("\n".join(settings) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert PROGRAM is not None
        command = [PROGRAM, "-c", str(self._config)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(self._listens)

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """As a crash does, but it has written down who subscribed."""
        if self._process is not None:
            self._stored.unlink(missing_ok=True)
            self._process.send_signal(signal.SIGUSR1)
            wait_until(self._stored.exists)
            self._process.kill()
            self._process.wait()
        self._process = None


class Listener:
    """Collects what is published, as (topic, payload, retained)."""

    def __init__(self, port: int, *login: str, ca: Path | None = None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages = list[tuple[str, str, bool]]()
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "listener", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        if login:
            self._client.username_pw_set(*login)
        if ca is not None:
            self._client.tls_set_context(ssl.create_default_context(cafile=str(ca)))
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *rest: self._subscribed.set()
        self._client.on_message = self._take
        self._client.connect("localhost" if ca else "127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE)

    def _subscribe(self, client: Any, *rest: Any) -> None:
        client.subscribe("#", qos=1)

    def _take(self, client: Any, data: Any, message: Any) -> None:
        self.messages.append((message.topic, message.payload.decode(), message.retain))

    def payloads(self, topic: str) -> list[str]:
        """What was published under ``topic``, in order."""
        return [payload for name, payload, _ in self.messages if name == topic]

    def publish(self, topic: str, payload: str, retain: bool = False) -> None:
        """While the broker is away, it waits."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
