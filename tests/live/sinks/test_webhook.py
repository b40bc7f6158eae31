"""Answers reach a program that fails, is slow, goes away and comes back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import seen
from certificates import make_certificate
from golden import ROOT
from mosquitto import free_port, wait_until
from webserver import WebServer

from vpt_edge.live.sinks.queue import SinkQueue
from vpt_edge.live.sinks.webhook import Webhook
from vpt_edge.runtime.errors import SinkError

KEY = "correct horse"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpt_edge.live.reader.FIRST_DELAY", 0.02)
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.LONGEST_DELAY", 0.05)
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.LOOK", 0.05)


@pytest.fixture
def serve() -> Iterator[Callable[..., WebServer]]:
    servers = list[WebServer]()

    def make(*arguments: Any) -> WebServer:
        servers.append(WebServer(*arguments))
        return servers[-1]

    yield make
    for server in servers:
        if not server.stopped.is_set():
            server.close()


def frames(server: WebServer) -> list[int]:
    return [json.loads(call.body)["frame"] for call in server.calls]


def put(sink: Webhook, *numbers: int) -> None:
    for number in numbers:
        sink.put(seen(number))


def is_empty(sink: Webhook) -> bool:
    return not sink._spool.letters()


def test_each_answer_is_posted_and_signed(serve: Callable[..., WebServer], tmp_path: Path) -> None:
    server = serve()
    url = server.url.replace("http://", "http://me:pass%40word@") + "?room=1"
    sink = Webhook(url, KEY, tmp_path / "spool")
    sent = seen(1, "答 yes")
    sink.put(sent)
    sink.close()
    (call,) = server.calls
    assert json.loads(call.body) == sent.to_dict()
    assert call.path == "/hook?room=1"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["authorization"] == f"Basic {base64.b64encode(b'me:pass@word').decode()}"
    moment = call.headers["webhook-timestamp"]
    assert abs(time.time() - int(moment)) < 60
    signed = f"{call.headers['webhook-id']}.{moment}.".encode() + call.body
    signature = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest())
    assert call.headers["webhook-signature"] == f"v1,{signature.decode()}"
    assert is_empty(sink)


def test_what_waits_is_sent_in_order_when_the_other_side_comes_back(
    serve: Callable[..., WebServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    sink = Webhook(f"http://u:s3cret@127.0.0.1:{port}/s3cret?s3cret", KEY, tmp_path / "spool")
    put(sink, *range(5))
    wait_until(lambda: sink._problem)
    server: WebServer = serve(lambda _: 200, port)
    wait_until(lambda: is_empty(sink))
    server.close()
    put(sink, *range(5, 9))
    wait_until(lambda: sink._problem)
    again = serve(lambda _: 200, port)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert frames(server) + frames(again) == list(range(9))
    assert sink.dropped == 0
    told = capsys.readouterr().err
    assert told.count("Connection refused; answers wait in") == 2
    assert told.count("goes on") == 2
    assert "s3cret" not in told + repr(sink._endpoint)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 302, 307])
def test_another_try_may_help(status: int, serve: Callable[..., WebServer], tmp_path: Path) -> None:
    def reply(handler: Any) -> int:
        return status if len(server.calls) < 4 else 204

    server = serve(reply)
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, 1, 2)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert frames(server) == [1, 1, 1, 1, 2]
    ids = {call.headers["webhook-id"] for call in server.calls}
    assert len(ids) == 2
    assert sink.dropped == 0


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (401, 1), (404, 1), (410, 1), (500, 10)])
def test_what_is_refused_does_not_block_the_others(
    status: int,
    tries: int,
    serve: Callable[..., WebServer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server: WebServer = serve(lambda _: status if frames(server)[-1] in (1, 2) else 200)
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, 0, 1, 2, 3)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert frames(server) == [0, *[1] * tries, *[2] * tries, 3]
    assert sink.dropped == 2
    told = capsys.readouterr().err
    assert told.count("an answer is dropped: it answers") == 1
    assert "goes on, 2 answers were dropped" in told


def test_the_other_sides_wish_is_heard_within_bounds(
    serve: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = list[float]()

    def reply(handler: Any) -> int | None:
        if len(server.calls) > 3:
            return 200
        wish = ("7", "Wed, 21 Oct 2065 07:28:00 GMT", "soon")[len(server.calls) - 1]
        handler.send_response(429)
        handler.send_header("Retry-After", wish)
        handler.end_headers()
        return None

    server = serve(reply)
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    monkeypatch.setattr(sink._closing, "wait", pauses.append)
    put(sink, 1)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert pauses[:2] == [7.0, 3600.0]
    assert pauses[2] < 1


def hang(handler: Any) -> None:
    handler.server_stopped.wait()


def drip(handler: Any) -> None:
    while not handler.server_stopped.wait(0.01):
        handler.wfile.write(b"H")


def drip_behind_the_status(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    drip(handler)


def close_at_once(handler: Any) -> None:
    handler.close_connection = True


def talk_nonsense(handler: Any) -> None:
    handler.wfile.write(b"\x1b[2J s3cret\r\n\r\n")


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        (hang, "it does not answer in time"),
        (drip, "it does not answer in time"),
        (close_at_once, "it closed the connection without an answer"),
        (talk_nonsense, "its answer is not HTTP (BadStatusLine)"),
    ],
)
def test_a_try_ends_in_time(
    behaviour: Callable[[Any], None],
    problem: str,
    serve: Callable[..., WebServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.SECONDS", 0.3)

    def reply(handler: Any) -> int | None:
        if len(server.calls) > 1:
            return 200
        handler.server_stopped = server.stopped
        behaviour(handler)
        return None

    server = serve(reply)
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, 1, 2)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert frames(server) == [1, 1, 2]
    assert sink.dropped == 0
    told = capsys.readouterr().err
    assert problem in told
    assert "\x1b" not in told and "s3cret" not in told


def test_a_status_is_enough(
    serve: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who drips behind it has the answer: it would drip again, and all others wait."""
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.SECONDS", 0.3)

    def reply(handler: Any) -> None:
        handler.server_stopped = server.stopped
        drip_behind_the_status(handler)

    server = serve(reply)
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, 1, 2)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert set(frames(server)) == {1, 2}
    assert sink.dropped == 0


def test_the_end_does_not_wait_for_a_hanging_answer(
    serve: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.CLOSE", 0.1)
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.PATIENCE", 0.1)
    server: WebServer = serve(lambda handler: server.stopped.wait())
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, 1)
    wait_until(lambda: server.calls)
    sink.close()
    assert not sink._thread.is_alive()
    assert not is_empty(sink)
    server.reply = lambda _: 200
    Webhook(server.url, KEY, tmp_path / "spool").close()
    assert frames(server) == [1, 1]
    assert is_empty(sink)


def test_the_end_waits_for_another_try(serve: Callable[..., WebServer], tmp_path: Path) -> None:
    server: WebServer = serve(lambda _: 200 if len(server.calls) > 3 else 503)
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, 1, 2)
    sink.close()
    assert frames(server) == [1, 1, 1, 1, 2]
    assert is_empty(sink)


def test_the_end_waits_as_long_as_answers_are_taken(
    serve: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.CLOSE", 0.05)

    def reply(handler: Any) -> int:
        server.stopped.wait(0.02)
        return 200

    server = serve(reply)
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, *range(20))
    sink.close()
    assert frames(server) == list(range(20))


def test_a_redirect_to_another_host_gets_nothing(
    serve: Callable[..., WebServer], tmp_path: Path
) -> None:
    other = serve()

    def reply(handler: Any) -> int | None:
        if len(server.calls) > 3:
            return 200
        handler.send_response((301, 307, 308)[len(server.calls) - 1])
        handler.send_header("Location", other.url)
        handler.end_headers()
        return None

    server = serve(reply)
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, 1)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert frames(server) == [1, 1, 1, 1]
    assert other.calls == []


def test_tls_is_checked(
    serve: Callable[..., WebServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.CLOSE", 0.1)
    key, certificate = make_certificate(tmp_path)
    server = serve(lambda _: 200, 0, (certificate, key))
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    put(sink, 1)
    wait_until(lambda: sink._problem)
    sink.close()
    assert server.calls == []
    assert "its certificate is not trusted: self-signed" in capsys.readouterr().err
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.CLOSE", 4.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert frames(server) == [1]


def test_the_proxy_of_the_environment(
    serve: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "")
    sink = Webhook("http://nowhere.invalid/hook", KEY, tmp_path / "spool")
    put(sink, 1)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert [call.path for call in proxy.calls] == ["http://nowhere.invalid/hook"]


FILL = """
import sys
sys.path[:0] = [{tests!r}]
from answers import seen
from vpt_edge.live.sinks.webhook import Webhook
sink = Webhook(sys.argv[1], "key", sys.argv[2])
number = 0
while True:
    sink.put(seen(number))
    print(number, flush=True)
    number += 1
"""


def test_what_waits_outlives_kill_9(serve: Callable[..., WebServer], tmp_path: Path) -> None:
    port = free_port()
    arguments = [f"http://127.0.0.1:{port}/", str(tmp_path / "spool")]
    code = FILL.format(tests=str(ROOT / "tests"))
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(30):
        process.stdout.readline()
    process.kill()
    rest = process.communicate()[0].split()
    server: WebServer = serve(lambda _: 200, port)
    sink = Webhook(arguments[0], KEY, arguments[1])
    put(sink, 99_999)
    wait_until(lambda: is_empty(sink))
    sink.close()
    count = len(frames(server)) - 1
    assert count >= 30 + len(rest)
    assert frames(server) == [*range(count), 99_999]
    left = [file.name for file in (tmp_path / "spool").rglob("*")]
    assert sorted(left) == ["new", "sender"]


def test_two_watches_share_a_spool(serve: Callable[..., WebServer], tmp_path: Path) -> None:
    server = serve()
    sinks = [Webhook(server.url, KEY, tmp_path / "spool") for _ in range(2)]
    for number in range(10):
        put(sinks[number % 2], number)
    wait_until(lambda: is_empty(sinks[0]))
    assert sorted(frames(server)) == list(range(10))
    sinks[0].close()
    put(sinks[1], 10)
    wait_until(lambda: is_empty(sinks[1]))
    sinks[1].close()
    assert sorted(frames(server)) == list(range(11))


def test_too_many_are_dropped_and_counted(
    serve: Callable[..., WebServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    sink = Webhook(f"http://127.0.0.1:{port}/", KEY, tmp_path / "spool", count=5)
    put(sink, *range(12))
    assert sink.dropped == 7
    server: WebServer = serve(lambda _: 200, port)
    wait_until(lambda: is_empty(sink))
    sink.close()
    *in_hand, _, _, _, _, _ = frames(server)
    assert frames(server)[len(in_hand) :] == [7, 8, 9, 10, 11]
    assert (
        len(in_hand) <= 1
    )  # one that was being posted when it was dropped may arrive all the same
    assert capsys.readouterr().err.count("the oldest are dropped") == 1


def test_a_full_disk_costs_its_answers_alone(
    serve: Callable[..., WebServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve()
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    queue = SinkQueue("webhook", sink)
    sync = os.fsync

    def fail(handle: int) -> None:
        if threading.current_thread() is queue._thread:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr("os.fsync", fail)
    queue.put(seen(0))
    queue.put(seen(1))
    wait_until(lambda: queue.failed == 2)
    monkeypatch.undo()
    queue.put(seen(2))
    queue.close()
    assert frames(server) == [2]
    assert queue.lost == 2
    assert "No space left on device" in capsys.readouterr().err


def test_what_was_sent_and_cannot_be_removed_is_not_sent_at_once_again(
    serve: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    sink = Webhook(server.url, KEY, tmp_path / "spool")
    pauses = list[float]()
    remove = sink._spool.remove

    def fail(letter: Any) -> None:
        if len(pauses) < 2:
            raise OSError(30, "Read-only file system")
        remove(letter)

    monkeypatch.setattr(sink._spool, "remove", fail)
    monkeypatch.setattr(sink._closing, "wait", pauses.append)
    put(sink, 1)
    wait_until(lambda: is_empty(sink))
    sink.close()
    assert frames(server) == [1, 1, 1]
    assert len({call.headers["webhook-id"] for call in server.calls}) == 1
    assert pauses == [0.05, 0.05]  # the longest


def test_where_nothing_can_be_kept(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "spool"):
        with pytest.raises(SinkError, match=f"cannot keep messages in {place}: "):
            Webhook("http://host/", KEY, place)
    assert file.read_text() == "mine"


def test_no_thread_and_no_descriptor_is_left(
    serve: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.SECONDS", 0.1)
    monkeypatch.setattr("vpt_edge.live.sinks.webhook.CLOSE", 0.1)
    server: WebServer = serve(lambda handler: server.stopped.wait(0.3) or 200)
    refused = f"http://127.0.0.1:{free_port()}/"
    Webhook(refused, KEY, tmp_path / "a").close()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    threads = threading.active_count()
    for _ in range(5):
        for index, url in enumerate((server.url, refused)):
            sink = Webhook(url, KEY, tmp_path / str(index))
            put(sink, 1)
            wait_until(lambda: sink._problem)  # noqa: B023 - at once
            sink.close()
    wait_until(lambda: threading.active_count() <= threads)
    wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)
