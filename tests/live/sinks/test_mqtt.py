"""Answers reach a real broker, and a bad one costs as little as can be."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import seen
from certificates import make_certificate
from mosquitto import Listener, Mosquitto, free_port, needs_mosquitto, wait_until

from vpt_edge.live.seen import StateChange
from vpt_edge.live.sinks.mqtt import Mqtt
from vpt_edge.live.sinks.queue import SinkQueue

ANONYMOUS = "allow_anonymous true"
SECRET = "p@ss/word:1"
QUOTED = "p%40ss%2Fword%3A1"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpt_edge.live.reader.FIRST_DELAY", 0.02)
    monkeypatch.setattr("vpt_edge.live.reader.LONGEST_DELAY", 0.1)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Starts brokers, which end with the test."""
    brokers = list[Mosquitto]()

    def make(*lines: str) -> Mosquitto:
        folder = tmp_path / f"broker-{len(brokers)}"
        folder.mkdir()
        brokers.append(Mosquitto(folder, *lines))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.kill()


def frames(listener: Listener, topic: str = "door/answer") -> list[int]:
    """The numbers of the frames that were answered, a repeat left out."""
    numbers = list[int]()
    for payload in listener.payloads(topic):
        number = json.loads(payload)["frame"]
        if number not in numbers:
            numbers.append(number)
    return numbers


@needs_mosquitto
def test_answers_and_the_status_are_published(start: Callable[..., Mosquitto]) -> None:
    broker = start(ANONYMOUS)
    listener = Listener(broker.port)
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/house/front%20door/")
    sent = seen(3, "答 yes", "Is it open?")
    sink.put(sent)
    wait_until(lambda: listener.payloads("house/front door/answer"))
    sink.close()
    wait_until(lambda: "offline" in listener.payloads("house/front door/status"))
    assert listener.payloads("house/front door/status") == ["online", "offline"]
    (answer,) = listener.payloads("house/front door/answer")
    assert json.loads(answer) == sent.to_dict()
    listener.close()
    late = Listener(broker.port)
    wait_until(lambda: len(late.messages) == 4)
    kept = {topic.split("/")[0]: payload for topic, payload, is_kept in late.messages if is_kept}
    assert json.loads(kept["homeassistant"])["name"] == "Is it open?"
    assert ("house/front door/status", "offline", True) in late.messages
    late.close()
    assert sink.dropped == 0


@needs_mosquitto
def test_others_ask_also_after_an_outage(start: Callable[..., Mosquitto]) -> None:
    broker = start(ANONYMOUS)
    listener = Listener(broker.port)
    listener.publish("door/ask", "kept", retain=True)
    wait_until(lambda: listener.payloads("door/ask"))
    taken = list[bytes]()
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", take=taken.append)
    wait_until(lambda: listener.payloads("door/status") == ["online"])
    listener.publish("door/ask", "")
    listener.publish("door/ask", "Who?")
    listener.publish("door/answer", "nothing")
    wait_until(lambda: len(taken) == 2)
    broker.kill()
    wait_until(lambda: sink._is_away)
    broker.start()
    wait_until(lambda: not sink._is_away)
    listener.publish("door/ask", "Where?")
    wait_until(lambda: len(taken) == 3)
    sink.close()
    listener.close()
    assert taken == [b"", b"Who?", b"Where?"]


@needs_mosquitto
def test_a_broker_that_is_killed_costs_nothing_within_the_bound(
    start: Callable[..., Mosquitto], capsys: pytest.CaptureFixture[str]
) -> None:
    broker = start(ANONYMOUS)
    listener = Listener(broker.port)
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", count=10)
    number = 0
    for _ in range(4):
        broker.kill()
        for _ in range(10):
            sink.put(seen(number))
            number += 1
        broker.start()
        wait_until(lambda: len(frames(listener)) == number)  # noqa: B023 - at once
        wait_until(lambda: not len(sink._outbox))
    sink.close()
    listener.close()
    assert frames(listener) == list(range(40))
    assert sink.dropped == 0
    told = capsys.readouterr().err
    assert 1 <= told.count("; messages wait") <= 4
    assert "messages wait\n" in told and "10 messages wait" in told


@needs_mosquitto
def test_what_is_too_much_is_dropped_from_the_oldest_on_and_counted(
    start: Callable[..., Mosquitto], capsys: pytest.CaptureFixture[str]
) -> None:
    broker = start(ANONYMOUS)
    listener = Listener(broker.port)
    broker.kill()
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", count=5)
    for number in range(12):
        sink.put(seen(number))
    assert sink.dropped == 7
    broker.start()
    wait_until(lambda: len(frames(listener)) == 5)
    sink.close()
    listener.close()
    assert frames(listener) == [7, 8, 9, 10, 11]
    assert sink.dropped == 7
    assert capsys.readouterr().err.count("the oldest are dropped") == 1


@needs_mosquitto
def test_the_end_waits_for_another_try(start: Callable[..., Mosquitto]) -> None:
    broker = start(ANONYMOUS)
    listener = Listener(broker.port)
    broker.kill()
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door")
    sink.put(seen(1))
    wait_until(lambda: sink._is_away)
    threading.Timer(0.3, broker.start).start()
    sink.close()
    assert sink.dropped == 0
    wait_until(lambda: frames(listener) == [1])
    listener.close()


@needs_mosquitto
def test_home_assistant_is_told_before_the_first_answer_and_again_when_the_broker_forgot(
    start: Callable[..., Mosquitto],
) -> None:
    broker = start(ANONYMOUS)
    listener = Listener(broker.port)
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", ["a", "b"], ["Is it?", "What?"])
    wait_until(lambda: len(listener.messages) == 5)
    for state in ("live", "lost"):
        sink.put(StateChange("a", state, 0.0))
    wait_until(lambda: len(listener.messages) == 7)
    broker.kill()
    listener.messages.clear()
    broker.start()
    wait_until(lambda: ("door/status", "online", False) in listener.messages)
    sink.close()
    wait_until(lambda: ("door/status", "offline", False) in listener.messages)
    listener.close()
    told = {topic: payload for topic, payload, is_kept in listener.messages if not is_kept}
    topics = [topic.split("/")[0:2] for topic in told]
    assert topics.count(["homeassistant", "binary_sensor"]) == 2
    assert topics.count(["homeassistant", "sensor"]) == 2
    assert [payload for topic, payload in told.items() if "/source/" in topic] == ["lost"]


@needs_mosquitto
def test_a_watch_that_dies_is_offline(start: Callable[..., Mosquitto]) -> None:
    broker = start(ANONYMOUS)
    listener = Listener(broker.port)
    code = (
        "import sys, time; from vpt_edge.live.sinks.mqtt import Mqtt\n"
        "sink = Mqtt(sys.argv[1]); time.sleep(60)"
    )
    url = f"mqtt://127.0.0.1:{broker.port}/door"
    process = subprocess.Popen([*PYTHON, code, url])
    wait_until(lambda: listener.payloads("door/status") == ["online"])
    process.kill()
    process.wait()
    wait_until(lambda: listener.payloads("door/status") == ["online", "offline"])
    listener.close()


@needs_mosquitto
def test_a_password(
    start: Callable[..., Mosquitto], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "me", SECRET], check=True)
    passwords.chmod(0o644)
    broker = start("allow_anonymous false", f"password_file {passwords}")
    listener = Listener(broker.port, "me", SECRET)
    sink = Mqtt(f"mqtt://me:{QUOTED}@127.0.0.1:{broker.port}/door")
    sink.put(seen(1))
    wait_until(lambda: frames(listener) == [1])
    sink.close()
    listener.close()

    wrong = Mqtt(f"mqtt://me:{QUOTED}x@127.0.0.1:{broker.port}/door")
    wrong.put(seen(1))
    wrong._thread.join(20)  # no retry: it ends by itself
    assert not wrong._thread.is_alive()
    wrong.put(seen(2))
    wrong.close()
    assert wrong.dropped == 2
    told = capsys.readouterr().err
    assert told.count("refuses the connection: ") == 1
    assert "check user and password" in told
    assert "p@ss" not in told and "p%40ss" not in told


# paho leaves the socket of a handshake that failed to Python.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@needs_mosquitto
def test_tls(
    start: Callable[..., Mosquitto],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key, certificate = make_certificate(tmp_path)
    broker = start(ANONYMOUS, f"certfile {certificate}", f"keyfile {key}")
    listener = Listener(broker.port, ca=certificate)
    sink = Mqtt(f"mqtts://localhost:{broker.port}/door?ca={certificate}")
    sink.put(seen(1))
    wait_until(lambda: frames(listener) == [1])
    sink.close()

    monkeypatch.setattr("vpt_edge.live.sinks.mqtt.CLOSE", 0.1)
    for host, ca in (("localhost", ""), ("127.0.0.1", f"?ca={certificate}")):
        stranger = Mqtt(f"mqtts://{host}:{broker.port}/door{ca}")
        stranger.put(seen(2))
        wait_until(lambda: stranger._is_away)  # noqa: B023 - at once
        stranger.close()
        assert stranger.dropped == 1
    told = capsys.readouterr().err
    assert "its certificate is not trusted: self-signed certificate" in told
    assert "its certificate is not trusted: IP address mismatch" in told
    listener.close()
    assert frames(listener) == [1]


PYTHON = [sys.executable, "-c"]


class BadBroker:
    """Greets, and confirms what is published, unless ``reply`` says something else about it.

    ``reply`` gets the topic, "" for the greeting, and returns whether to answer; ConnectionError
    hangs up.
    """

    def __init__(self, reply: Callable[[str], bool]) -> None:
        self.topics = list[str]()
        self._reply = reply
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}/door"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, line.makefile("rb") as stream:
            try:
                while self._answer(line, stream):
                    pass
            except OSError:
                pass

    def _answer(self, line: socket.socket, stream: Any) -> bool:
        kind = stream.read(1)
        if not kind:
            return False
        length = 0
        shift = 0
        byte = 0x80
        while byte & 0x80:
            (byte,) = stream.read(1)
            length += (byte & 0x7F) << shift
            shift += 7
        body = stream.read(length)
        if kind[0] >> 4 == 1 and self._reply(""):
            line.sendall(b"\x20\x02\x00\x00")
        if kind[0] >> 4 == 3:
            size = int.from_bytes(body[:2], "big")
            topic = body[2 : 2 + size].decode()
            self.topics.append(topic)
            if self._reply(topic):
                line.sendall(b"\x40\x02" + body[2 + size : 4 + size])
        return True

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._server.close()


def test_a_broker_that_accepts_and_never_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.broker.GREETING", 0.1)
    monkeypatch.setattr("vpt_edge.live.sinks.mqtt.CLOSE", 0.1)
    broker = BadBroker(lambda topic: False)
    queue = SinkQueue("mqtt", Mqtt(broker.url))
    queue.put(seen())
    wait_until(lambda: queue._sink._is_away)  # type: ignore[attr-defined]
    queue.close()
    broker.close()
    told = capsys.readouterr().err
    assert "it does not answer in time; messages wait" in told
    assert "1 messages were not delivered" in told


def test_an_answer_at_which_the_broker_hangs_up_does_not_block_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reply(topic: str) -> bool:
        if topic == "door/answer" and broker.topics.count(topic) <= 5:
            raise ConnectionError
        return True

    broker = BadBroker(reply)
    sink = Mqtt(broker.url)
    sink.put(seen(1))
    sink.put(seen(2))
    wait_until(lambda: not len(sink._outbox))
    sink.close()
    broker.close()
    assert sink.dropped == 1
    assert broker.topics.count("door/answer") == 6
    assert "closed the connection 5 times at a message" in capsys.readouterr().err


def test_the_end_waits_as_long_as_answers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.mqtt.CLOSE", 0.05)
    slow = threading.Event()
    broker = BadBroker(lambda topic: not slow.wait(0.02))
    sink = Mqtt(f"{broker.url}?discovery=off")
    for number in range(20):
        sink.put(seen(number))
    sink.close()
    assert sink.dropped == 0
    assert broker.topics.count("door/answer") == 20
    assert broker.topics[-1] == "door/status"
    broker.close()


def test_an_answer_that_is_not_confirmed_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.mqtt.CONFIRMATION", 0.1)
    broker = BadBroker(lambda topic: topic != "door/answer" or broker.topics.count(topic) > 7)
    sink = Mqtt(broker.url)
    sink.put(seen())
    wait_until(lambda: not len(sink._outbox))
    sink.close()
    broker.close()
    assert broker.topics.count("door/answer") == 8
    assert sink.dropped == 0


def test_a_certificate_that_is_being_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.mqtt.CLOSE", 0.1)
    _, certificate = make_certificate(tmp_path)
    sink = Mqtt(f"mqtts://127.0.0.1:{free_port()}/door?ca={certificate}")
    wait_until(lambda: sink._is_away)
    sink.put(seen(1))
    certificate.unlink()
    sink._outbox.pause(0.5)
    assert sink._thread.is_alive()
    sink.close()
    assert "1 messages were not delivered" in capsys.readouterr().err


def test_no_thread_and_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.mqtt.CONFIRMATION", 0.1)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    threads = threading.active_count()
    broker = BadBroker(lambda topic: topic != "door/answer" or broker.topics.count(topic) % 2 == 0)
    for _ in range(5):
        sink = Mqtt(broker.url)
        sink.put(seen())
        sink.close()
        gone = Mqtt(f"mqtt://127.0.0.1:{free_port()}/door")
        gone.close()
        wait_until(lambda: not sink._thread.is_alive())  # noqa: B023 - at once
    broker.close()
    wait_until(lambda: threading.active_count() <= threads)
    wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)
