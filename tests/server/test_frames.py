"""What sources show, over HTTP."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import rtsp
from PIL import Image
from serving import LONG, Served

from vpt_edge.live.watchdog import Watchdog
from vpt_edge.server.watching import VIEWERS

if TYPE_CHECKING:
    from collections.abc import Iterator

Serve = Callable[..., Served]
SCENES = "scenes://?rate=20"
PATTERN = "testsrc://?width=1600&height=400&rate=10"
USER = "qzquser"
PASSWORD = "zqzw@rd/x"
LOGIN = "qzquser:zqzw%40rd%2Fx"
SECRETS = ("qzq", "zqz")


def split(reply: httpx.Response) -> tuple[Any, Image.Image]:
    """The line of JSON, and the picture behind it."""
    assert reply.status_code == 200
    line, _, jpeg = reply.content.partition(b"\n")
    data = json.loads(line)
    assert data["bytes"] == len(jpeg)
    return data, Image.open(io.BytesIO(jpeg))


def poll(served: Served, name: str, after: int | None = None) -> httpx.Response:
    query = {} if after is None else {"after": after}
    return served.client.get(f"/sources/{name}/frame", params=query)


def read_parts(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The pictures of a stream."""
    data = b""
    for chunk in lines:
        data += chunk
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            assert head.startswith(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: ")
            length = int(head.rpartition(b" ")[2])
            if len(rest) < length + 2:
                break
            yield rest[:length]
            data = rest[length + 2 :]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_watched_is_listed(serve: Serve) -> None:
    served = serve(watch=(SCENES, PATTERN, PATTERN))
    poll(served, "scenes")
    rows = served.client.get("/sources").json()["sources"]
    assert [row["name"] for row in rows] == ["scenes", "testsrc-ball", "testsrc-ball-2"]
    assert (rows[0]["state"], rows[0]["problem"]) == ("live", None)
    assert set(rows[0]["frame"]) == {"number", "time", "age"}


def test_each_poll_gives_a_newer_frame(serve: Serve) -> None:
    served = serve(watch=(SCENES,))
    numbers = list[int]()
    after = None
    for _ in range(4):
        reply = poll(served, "scenes", after)
        assert reply.headers["cache-control"] == "no-store"
        data, picture = split(reply)
        assert picture.size == (data["width"], data["height"]) == (512, 512)
        assert 0 <= data["age"] < LONG and data["state"] == "live"
        after = data["number"]
        numbers.append(after)
    assert numbers == sorted(set(numbers))


def test_a_view_is_bounded_and_tells_the_size_of_the_frame(serve: Serve) -> None:
    data, picture = split(poll(serve(watch=(PATTERN,)), "testsrc-ball"))
    assert (data["width"], data["height"]) == (1600, 400)
    assert picture.size == (1280, 320)


def test_a_number_of_before_a_new_start_holds_nobody(serve: Serve) -> None:
    data, _ = split(poll(serve(watch=(SCENES,)), "scenes", after=10**9))
    assert data["number"] < 10**9


def test_without_a_newer_frame_there_is_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watchdog, "expect", lambda *_: None)  # else a silent source begins anew
    served = serve(watch=("testsrc://?rate=0.01",))
    data, _ = split(poll(served, "testsrc-ball"))
    monkeypatch.setattr("vpt_edge.server.frames.HOLD", 0.3)
    reply = poll(served, "testsrc-ball", after=data["number"])
    assert (reply.status_code, reply.content) == (204, b"")


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=", "number=1e3", "number=٣"])
def test_what_is_not_a_number_is_refused(serve: Serve, query: str) -> None:
    reply = serve(watch=(SCENES,)).client.get(f"/sources/scenes/frame?{query}")
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize(
    "path",
    [
        "/sources/door/frame",
        "/sources/door/stream.mjpg",
        "/sources/..%2f..%2fetc/frame",
        "/sources/scenes/frame?number=99999999",
    ],
)
def test_what_is_not_there_is_said_in_our_shape(serve: Serve, path: str) -> None:
    reply = serve(watch=(SCENES,)).client.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_a_server_that_watches_nothing_says_how_it_would(serve: Serve) -> None:
    served = serve()
    assert served.client.get("/sources").json() == {"sources": []}
    reply = served.client.get("/stream.mjpg")
    assert reply.status_code == 404
    assert "--watch" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/sources", "/sources/scenes/frame", "/sources/scenes/stream.mjpg", "/stream.mjpg"]
)
def test_only_those_look_who_may_ask(serve: Serve, path: str) -> None:
    reply = serve(watch=(SCENES,), keys=("a-key-of-this-server",)).client.get(path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/stream.mjpg", "/sources/scenes/stream.mjpg"])
def test_a_stream_gives_picture_after_picture(serve: Serve, path: str) -> None:
    served = serve(watch=(SCENES,))
    with served.client.stream("GET", path) as reply:
        assert reply.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        assert reply.headers["cache-control"] == "no-store"
        parts = read_parts(reply.iter_raw())
        pictures = [next(parts) for _ in range(3)]
    assert [Image.open(io.BytesIO(each)).size for each in pictures] == [(512, 512)] * 3
    assert len(set(pictures)) == 3


def test_a_stream_asked_for_its_head_alone_ends(serve: Serve) -> None:
    reply = serve(watch=(SCENES,)).client.head("/stream.mjpg")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("multipart/x-mixed-replace")


def open_viewer(served: Served) -> socket.socket:
    """One that takes nothing of its stream but its beginning."""
    viewer = socket.create_connection(("127.0.0.1", served.listener.port), LONG)
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert viewer.recv(12) == b"HTTP/1.1 200"
    return viewer


def test_viewers_are_bounded_and_make_room_when_they_go(serve: Serve) -> None:
    served = serve(watch=(SCENES,))
    viewers = [open_viewer(served) for _ in range(VIEWERS)]
    reply = served.client.get("/stream.mjpg")
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "too_many_viewers"
    viewers.pop().close()
    wait_until(lambda: served.client.head("/health").status_code == 200 and is_served(served))
    for viewer in viewers:
        viewer.close()


def is_served(served: Served) -> bool:
    with served.client.stream("GET", "/stream.mjpg") as reply:
        return reply.status_code == 200


def test_a_viewer_who_takes_nothing_holds_nobody_and_is_let_go(serve: Serve) -> None:
    noise = "testsrc://?pattern=noise&width=1280&height=720&rate=20"
    served = serve(watch=(noise,), write_seconds=0.5)
    viewer = open_viewer(served)
    after = None
    for _ in range(5):
        data, _ = split(poll(served, "testsrc-noise", after))
        after = data["number"]
    semaphore = served.listener.service.watching.viewers
    wait_until(lambda: semaphore._value == VIEWERS)
    viewer.close()


def test_many_viewers_leave_no_thread_and_no_descriptor(serve: Serve) -> None:
    served = serve(watch=(SCENES, PATTERN))
    split(poll(served, "scenes"))
    split(poll(served, "testsrc-ball"))
    threads = threading.active_count()
    opened = descriptors()
    most = list[int]()

    def look() -> None:
        with httpx.Client(base_url=served.url, timeout=LONG) as client:
            after = 0
            for _ in range(5):
                reply = client.get("/sources/scenes/frame", params={"after": after})
                after = split(reply)[0]["number"]
            most.append(threading.active_count())

    def follow() -> None:
        with httpx.stream("GET", f"{served.url}/stream.mjpg", timeout=LONG) as reply:
            parts = read_parts(reply.iter_raw())
            assert len([next(parts) for _ in range(5)]) == 5

    with ThreadPoolExecutor(25) as pool:
        tasks = [pool.submit(look) for _ in range(20)]
        tasks += [pool.submit(follow) for _ in range(5)]
        for task in tasks:
            task.result()
    assert max(most) <= threads + 25 + 2  # the viewers' own, and those that encode
    wait_until(lambda: descriptors() <= opened)
    assert threading.active_count() <= threads + 2


def test_a_frame_is_encoded_once_for_all(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from vpt_edge.server import still

    drawn = list[int]()
    draw_view = still.draw_view

    def count(frame: Any) -> Any:
        drawn.append(frame.number)
        return draw_view(frame)

    monkeypatch.setattr(still, "draw_view", count)
    served = serve(watch=("testsrc://?rate=2",))
    with ThreadPoolExecutor(10) as pool:
        replies = [pool.submit(poll, served, "testsrc-ball") for _ in range(10)]
        numbers = {split(reply.result())[0]["number"] for reply in replies}
    assert sorted(drawn) == sorted(numbers)


def test_nobody_keeps_the_server_from_its_end(serve: Serve) -> None:
    served = serve(watch=("testsrc://?rate=0.01", SCENES))
    data, _ = split(poll(served, "testsrc-ball"))
    ended = list[bool]()

    def follow() -> None:
        address = f"{served.url}/sources/scenes/stream.mjpg"
        with httpx.stream("GET", address, timeout=LONG) as reply:
            for _ in reply.iter_raw():
                pass
        ended.append(True)

    viewer = threading.Thread(target=follow)
    viewer.start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(poll, served, "testsrc-ball", data["number"])
        wait_until(lambda: served.client.get("/sources").json()["sources"][1]["frames"] > 3)
        served.listener.service.stop()
        assert waiting.result().status_code == 204
    viewer.join(LONG)
    assert ended == [True]


MISSING = rtsp.find_missing()


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_poll_goes_on_through_an_outage_of_its_camera(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And no reply ever holds what the camera is reached with."""
    monkeypatch.setattr("vpt_edge.server.frames.HOLD", LONG)
    camera = rtsp.RtspServer("--login", f"{USER}:{PASSWORD}")
    camera.start()
    served = serve(watch=(f"rtsp://{LOGIN}@127.0.0.1:{camera.port}/stream",))
    texts = list[str]()

    def state() -> str:
        reply = served.client.get("/sources")
        texts.append(reply.text)
        (row,) = reply.json()["sources"]
        assert row["name"] == "127.0.0.1"
        return str(row["state"])

    data, _ = split(poll(served, "127.0.0.1"))
    camera.kill()
    wait_until(lambda: state() in ("lost", "connecting"))
    number = served.client.get("/sources").json()["sources"][0]["frame"]["number"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(poll, served, "127.0.0.1", number)
        asked = served.ask_source("127.0.0.1")
        assert (asked.status_code, asked.json()["error"]["code"]) == (503, "source_unavailable")
        assert "retry-after" in asked.headers
        texts.append(asked.text)
        camera.start()
        newer, picture = split(waiting.result())
    assert newer["number"] > number >= data["number"]
    assert picture.size == (160, 90)
    (row,) = served.client.get("/sources").json()["sources"]
    assert row["reconnects"] == 1
    camera.kill()
    served.close()
    texts += capfd.readouterr()
    assert not [secret for secret in SECRETS for text in texts if secret in text]


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_wrong_password_is_said_and_the_server_goes_on(serve: Serve) -> None:
    with rtsp.RtspServer("--login", f"{USER}:{PASSWORD}") as camera:
        address = f"rtsp://{USER}:wrongzqz@127.0.0.1:{camera.port}/stream"
        served = serve("A dog.", watch=(address, SCENES))
        rows = list[Any]()

        def is_ended() -> bool:
            rows[:] = served.client.get("/sources").json()["sources"]
            return bool(rows[0]["state"] == "ended")

        wait_until(is_ended)
        assert "refuses its user or password" in rows[0]["problem"]
        assert "zqz" not in json.dumps(rows)
        reply = served.ask_source("127.0.0.1")
        assert reply.status_code == 503
        assert "is ended: " in reply.json()["error"]["message"]
        assert served.ask_source("scenes").status_code == 200
