"""Cameras of the network, against real servers."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
import rtsp
from clips import level_of, write_clip
from feeds import wait_for
from PIL import Image

from vpt_edge import live
from vpt_edge.live.feed import PermanentError
from vpt_edge.live.network import PROTOCOLS, Delay
from vpt_edge.live.source import each_frame
from vpt_edge.runtime.errors import SourceError

MISSING = rtsp.find_missing()
needs_server = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

USER = "us:er"
PASSWORD = "p@ss/w?rd"
LOGIN = "us%3Aer:p%40ss%2Fw%3Frd"


class HttpCamera(BaseHTTPRequestHandler):
    """/video is MJPEG without end, /ten ends after ten pictures, /page is none; with a login."""

    clip = b""

    def do_GET(self) -> None:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers["Authorization"] != f"Basic {login}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
        elif self.path == "/clip.mp4":
            self._send("video/mp4", self.clip)
        elif self.path == "/page":
            self._send("text/html", b"<html>hello</html>")
        else:
            self._stream(10 if self.path == "/ten" else 100_000)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, count: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for index in range(count):
            picture = BytesIO()
            Image.new("RGB", (64, 48), (index % 250, 9, 9)).save(picture, "JPEG")
            body = picture.getvalue()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + body + b"\r\n")
            except OSError:
                return
            if self.server.pause.wait(0.01):  # type: ignore[attr-defined]
                return

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows it."""


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an HttpCamera, with its login."""
    path = write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 20)
    HttpCamera.clip = path.read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), HttpCamera)
    server.pause = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=partial(server.serve_forever, 0.05))
    thread.start()
    yield f"http://{LOGIN}@127.0.0.1:{server.server_address[1]}"
    server.pause.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server() -> Iterator[rtsp.RtspServer]:
    with rtsp.RtspServer("--login", "user:p@ss/word") as server:
        yield server


def address(
    server: rtsp.RtspServer, path: str = "stream", login: str = "user:p%40ss%2Fword"
) -> str:
    return f"rtsp://{login}@127.0.0.1:{server.port}/{path}"


@needs_server
@pytest.mark.parametrize("path", ["stream", "stream?transport=udp", "sound"])
def test_an_rtsp_camera_is_read(server: rtsp.RtspServer, path: str) -> None:
    with live.open(address(server, path)) as source:
        assert source.live
        for frame, _ in zip(each_frame(source), range(5), strict=False):
            assert frame.pixels.shape == (90, 160, 3)
            assert 0 <= frame.age < 5
        assert (
            source.name == frame.source == f"rtsp://127.0.0.1:{server.port}/{path[:6].strip('?')}"
        )
        assert (source.state, source.counts.opens, source.counts.losses) == ("live", 1, 0)


@needs_server
def test_digest_is_spoken_too() -> None:
    server = rtsp.RtspServer("--login", "user:p@ss/word", "--digest")
    with server, live.open(address(server)) as source:
        assert next(each_frame(source)).pixels.any()


@needs_server
@pytest.mark.parametrize(
    ("path", "login", "problem"),
    [
        ("stream", "user:wrong", "refuses its user or password: .*401"),
        ("nothing", "user:p%40ss%2Fword", "is not a stream of its server: .*404"),
    ],
)
def test_what_a_server_refuses_is_said(
    server: rtsp.RtspServer, path: str, login: str, problem: str
) -> None:
    with live.open(address(server, path, login)) as source:
        wait_for(source, lambda: source.state == "ended")
        with pytest.raises(PermanentError, match=problem) as failure:
            source.poll()
        assert "user:" not in str(failure.value) and "p%40" not in str(failure.value)


@needs_server
def test_a_camera_that_changes_its_size_is_followed(
    server: rtsp.RtspServer,
) -> None:
    with live.open(address(server)) as source:
        wait_for(source, lambda: source.state == "live")
        frame = source.poll()
        assert frame is not None and frame.pixels.shape == (90, 160, 3)
        server.kill()
        server.start("--swap")
        wait_for(source, lambda: source.counts.opens == 2)
        frame = source.poll()
        assert frame is not None and frame.pixels.shape == (180, 320, 3)


@needs_server
def test_what_is_asked_about_is_the_newest_however_long_the_last_question_took() -> None:
    """By a clock in the picture: neither FFmpeg nor we keep older ones in a queue."""
    with rtsp.RtspServer() as server, live.open(address(server, "clock")) as source:
        for _, frame in zip(range(3), each_frame(source), strict=False):
            drawn = rtsp.read_clock(frame.raster.to_luma(320, 180))
            assert drawn <= frame.monotonic, "it was drawn before it was decoded"
            assert frame.monotonic - drawn < 1.0
            time.sleep(1.5)
        assert source.counts.dropped > 20


@needs_server
def test_with_eco_too_it_is_the_newest_and_the_others_are_not_decoded() -> None:
    with rtsp.RtspServer() as server:
        source = live.open(f"rtsp://127.0.0.1:{server.port}/clock", eco=True)
        with source:
            for _, frame in zip(range(3), each_frame(source), strict=False):
                drawn = rtsp.read_clock(frame.raster.to_luma(320, 180))
                assert drawn <= frame.monotonic, "it was drawn before its packet came"
                assert frame.monotonic - drawn < 1.0
                time.sleep(1.5)
            counts = source.counts
        assert 0 < counts.undecoded < counts.frames
        assert counts.dropped > 20


@needs_server
def test_with_eco_a_camera_that_comes_back_is_read_again(server: rtsp.RtspServer) -> None:
    with live.open(address(server), eco=True) as source:
        wait_for(source, lambda: source.state == "live")
        before = source.poll()
        server.kill()
        wait_for(source, lambda: source.state == "lost")
        server.start("--swap")
        wait_for(source, lambda: source.counts.opens == 2)
        after = source.poll()
        assert before is not None and after is not None
        assert before.pixels.shape == (90, 160, 3), "it can be looked at all the same"
        assert after.pixels.shape == (180, 320, 3)
        assert before.pixels.any() and after.pixels.any()


@needs_server
def test_with_eco_a_camera_whose_key_frames_are_rare_does_not_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vpt_edge.live.group.MOST", 4)
    with rtsp.RtspServer() as server:
        source = live.open(f"rtsp://127.0.0.1:{server.port}/clock", eco=True, stall=0.6)
        with source:
            for _, frame in zip(range(45), each_frame(source), strict=False):
                drawn = rtsp.read_clock(frame.raster.to_luma(320, 180))
                assert 0 <= frame.monotonic - drawn < 1.0
            assert source.counts.losses == 0


@needs_server
def test_a_silent_camera_is_stalled_and_lost_and_comes_back(server: rtsp.RtspServer) -> None:
    states = list[str]()
    problems = list[str]()
    with live.open(address(server), stall=0.6) as source:

        def note() -> None:
            states.append(source.state)
            problems.append(str(source.problem))

        source.listen(note)
        wait_for(source, lambda: source.state == "live")
        server.freeze()
        wait_for(source, lambda: "lost" in states)
        assert f"{source.name} gave no picture for 0.6 s" in problems
        server.thaw()
        wait_for(source, lambda: source.state == "live")
        assert source.counts.losses >= 1
    assert states.index("stalled") < states.index("lost")


def test_nobody_at_the_port_is_said_and_tried_again() -> None:
    with live.open(f"rtsp://user:secret@127.0.0.1:{rtsp.free_port()}/x") as source:
        states = list[str]()
        source.listen(lambda: states.append(source.state))
        wait_for(source, lambda: states.count("lost") >= 2)
        assert "refuses connections" in str(source.problem)
        assert source.poll() is None


def test_an_mjpeg_camera_is_read(camera: str) -> None:
    with live.open(f"{camera}/video") as source:
        numbers = [frame.number for frame, _ in zip(each_frame(source), range(5), strict=False)]
        assert numbers == sorted(set(numbers))
        assert source.live and source.state == "live"
        assert LOGIN not in source.name and "ss" not in source.name


def test_with_eco_pictures_of_an_mjpeg_camera_are_decoded_when_looked_at(camera: str) -> None:
    with live.open(f"{camera}/video", eco=True) as source:
        for frame, _ in zip(each_frame(source), range(5), strict=False):
            assert frame.pixels.shape == (48, 64, 3)
        wait_for(source, lambda: source.counts.undecoded > 5)


def test_an_mjpeg_camera_that_ends_is_lost_and_comes_back(camera: str) -> None:
    with live.open(f"{camera}/ten") as source:
        wait_for(source, lambda: source.counts.opens == 2)
        assert source.counts.losses == 1


def test_a_file_of_the_network_gives_every_frame(camera: str) -> None:
    with live.open(f"{camera}/clip.mp4") as source:
        assert not source.live
        levels = [level_of(frame.pixels) for frame in each_frame(source)]
    assert levels == list(range(20))


def test_a_page_is_not_a_camera(camera: str) -> None:
    with live.open(f"{camera}/page") as source:
        wait_for(source, lambda: source.problem is not None)
        assert "/page cannot be read: PyAV says: Invalid data" in str(source.problem)


def test_a_wrong_password_of_http_is_said(camera: str) -> None:
    wrong = camera.replace(LOGIN, "user:wr0ng")
    with live.open(f"{wrong}/video") as source:
        wait_for(source, lambda: source.state == "ended")
        with pytest.raises(PermanentError, match="refuses its user or password"):
            source.poll()
    with pytest.raises(SourceError, match="401") as failure:
        live.open(f"{wrong}/clip.mp4")
    for error in (failure.value, failure.value.__cause__, failure.value.__context__):
        assert "wr0ng" not in repr(error)


@pytest.mark.parametrize("query", ["transport=sctp", "transport="])
def test_a_transport_that_is_none_is_said(query: str) -> None:
    with pytest.raises(SourceError, match="one of tcp, udp"):
        live.open(f"rtsp://host/x?{query}")


def test_a_playlist_does_not_reach_the_files_of_this_machine() -> None:
    for kind, names in PROTOCOLS.items():
        assert kind in names.split(",")
        assert "file" not in names.split(",")


def test_half_a_picture_that_comes_late_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("vpt_edge.live.network.time.monotonic", lambda: clock[0])

    def late(delay: Delay, pause: float, stamp: float | None) -> bool:
        clock[0] += pause
        return delay.is_late(stamp)

    delay = Delay(1.5)
    assert not late(delay, 9.0, 5.0), "the first"
    assert not late(delay, 0.03, 5.03)
    assert late(delay, 1.5, 5.06), "what was left when a read timed out"
    assert not late(delay, 2.0, 7.06), "a camera of one picture in two seconds"
    assert not late(delay, 1.0, 7.1), "a network that was slow for less"
    assert not late(delay, 2.0, None), "without time stamps nobody knows"
