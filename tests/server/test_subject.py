"""Questions about what a source shows."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from scripted import OTHER
from serving import LONG, Served

from vpt_edge.live.watchdog import Watchdog
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

Serve = Callable[..., Served]
SCENES = "scenes://?rate=20"
WIDE = "testsrc://?width=1600&height=400&rate=10"


def hold_decoder(served: Served) -> tuple[threading.Event, threading.Event]:
    """Set when an answer has begun, and what lets it go on."""
    session: Any = served.script.sessions["decoder"]
    run = session.run
    begun = threading.Event()
    goes_on = threading.Event()

    def wait_and_run(inputs: Any, outputs: Any) -> None:
        begun.set()
        assert goes_on.wait(LONG)
        run(inputs, outputs)

    session.run = wait_and_run
    return begun, goes_on


def read_chunks(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def stream_source(served: Served, name: str) -> Any:
    part = {"type": "image_url", "image_url": {"url": f"source:{name}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}]
    body = {"messages": messages, "stream": True}
    return served.client.stream("POST", "/v1/chat/completions", json=body)


def test_an_answer_says_which_frame_it_is_about(serve: Serve) -> None:
    served = serve("A dog.", watch=(SCENES,))
    before = datetime.now(timezone.utc)
    reply = served.ask_source("scenes").json()
    frame = reply["vpt"]["frame"]
    assert set(frame) == {"source", "number", "time", "age_at_start", "age_at_end"}
    assert frame["source"] == "scenes"
    assert 0 <= frame["age_at_start"] <= frame["age_at_end"] < LONG
    age = (datetime.fromisoformat(frame["time"]) - before).total_seconds()
    assert age > -0.05  # captured since the question, but for what is rounded
    assert reply["choices"][0]["message"]["content"] == "A dog."


def test_a_picture_that_came_with_the_question_is_no_frame(serve: Serve) -> None:
    assert "frame" not in serve("A dog.", watch=(SCENES,)).ask().json()["vpt"]


def test_looks_are_in_the_pixels_of_the_frame_itself(serve: Serve) -> None:
    served = serve(f"I look: {OTHER}", "A dog.", watch=(WIDE,))
    details = served.ask_source("testsrc-ball").json()["vpt"]
    assert details["size"] == [1600, 400]
    assert details["looks"][0]["box"] == [1200, 300, 1600, 400]


def test_the_frame_of_an_answer_can_be_seen(serve: Serve) -> None:
    served = serve("A dog.", "A cat.", watch=(SCENES,))
    pictures = dict[int, bytes]()
    for _ in range(2):
        number = served.ask_source("scenes").json()["vpt"]["frame"]["number"]
        reply = served.client.get("/sources/scenes/frame", params={"number": number})
        assert (reply.status_code, reply.headers["content-type"]) == (200, "image/jpeg")
        assert Image.open(io.BytesIO(reply.content)).size == (512, 512)
        pictures[number] = reply.content
        served.client.get("/sources/scenes/frame", params={"after": number})
    assert len(set(pictures.values())) == 2
    for number, jpeg in pictures.items():  # while newer ones have come
        reply = served.client.get("/sources/scenes/frame", params={"number": number})
        assert reply.content == jpeg


def test_a_stream_tells_its_frame_before_the_answer_begins(serve: Serve) -> None:
    served = serve("A dog.", watch=(SCENES,))
    begun, goes_on = hold_decoder(served)
    with stream_source(served, "scenes") as reply:
        chunks = read_chunks(reply.iter_lines())
        assert next(chunks)["choices"][0]["delta"]["role"] == "assistant"
        early = next(chunks)["vpt"]["frame"]
        number = {"number": early["number"]}
        assert served.client.get("/sources/scenes/frame", params=number).status_code == 200
        assert begun.wait(LONG)
        goes_on.set()
        *_, last = chunks
    assert last["vpt"]["frame"] == {**early, "age_at_end": last["vpt"]["frame"]["age_at_end"]}
    assert last["vpt"]["frame"]["age_at_end"] > early["age_at_start"]


def test_a_client_that_leaves_while_its_question_waits_is_forgotten(serve: Serve) -> None:
    served = serve("A dog.", "A cat.", watch=(SCENES,))
    begun, goes_on = hold_decoder(served)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.ask_source, "scenes")
        assert begun.wait(LONG)
        with stream_source(served, "scenes") as reply:
            chunks = read_chunks(reply.iter_lines())
            next(chunks)
            worker = served.listener.service.worker
            assert worker.waiting == 1
        while worker.waiting:
            pass
        goes_on.set()
        assert first.result().status_code == 200
    served.wait_idle()
    assert served.ask_source("scenes").json()["choices"][0]["message"]["content"] == "A cat."


def test_what_is_wrong_at_once_has_a_status(serve: Serve) -> None:
    served = serve("A dog.", watch=(SCENES,))
    for stream in (False, True):
        reply = served.ask_source("scenes", stream=stream, temperature=-1)
        assert reply.status_code == 400


def test_questions_about_one_frame_share_its_encoding(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a source that is slower than they are."""
    monkeypatch.setattr("vpt_edge.server.live_source.PATIENCE", 0.2)
    monkeypatch.setattr(Watchdog, "expect", lambda *_: None)  # else a silent source begins anew
    served = serve("A dog.", "A cat.", watch=("testsrc://?rate=0.01",))
    numbers = {served.ask_source("testsrc-ball").json()["vpt"]["frame"]["number"]}
    second = served.ask_source("testsrc-ball", perception="off").json()
    numbers.add(second["vpt"]["frame"]["number"])
    assert numbers == {0}
    assert second["vpt"]["usage"]["vision_runs"] == 0
    assert second["vpt"]["frame"]["age_at_start"] > 0.2  # it has waited for a frame of its own
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_a_frame_is_no_copy_of_a_copy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model gets its pixels, whatever a view is made of them."""

    def fail(frame: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("vpt_edge.server.still.draw_view", fail)
    assert serve("A dog.", watch=(SCENES,)).ask_source("scenes").status_code == 200


def test_a_source_that_is_not_there(serve: Serve) -> None:
    reply = serve(watch=(SCENES,)).ask_source("door")
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["code"] == "source_not_found"
    assert "this server watches: scenes" in error["message"]


def test_a_broken_frame_is_the_source_s_fault(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(raster: Any) -> Any:
        raise SourceError("the picture is broken")

    monkeypatch.setattr("vpt_edge.live.frame.ArrayRaster.to_rgb", fail)
    reply = serve("A dog.", watch=(SCENES,)).ask_source("scenes")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "source_unavailable")


def test_a_frame_that_the_model_cannot_be_shown(serve: Serve) -> None:
    reply = serve("A dog.", watch=("testsrc://?width=4000&height=2",)).ask_source("testsrc-ball")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_image_format")


def ollama_bodies(name: str) -> dict[str, dict[str, Any]]:
    """Of both routes."""
    images = [f"source:{name}"]
    message = {"role": "user", "content": "What?", "images": images}
    return {
        "/api/generate": {"prompt": "What?", "images": images},
        "/api/chat": {"messages": [message]},
    }


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
def test_clients_of_ollama_ask_about_a_source_too(serve: Serve, route: str) -> None:
    served = serve("A dog.", watch=(SCENES,))
    body = {**ollama_bodies("scenes")[route], "stream": False}
    reply = served.client.post(route, json=body).json()
    assert "A dog." in (reply.get("response"), reply.get("message", {}).get("content"))
    frame = reply["vpt"]["frame"]
    assert frame["source"] == "scenes"
    assert 0 <= frame["age_at_start"] <= frame["age_at_end"]


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
def test_a_stream_of_ollama_tells_its_frame_while_the_question_waits(
    serve: Serve, route: str
) -> None:
    served = serve("A dog.", watch=(SCENES,))
    begun, goes_on = hold_decoder(served)
    body = ollama_bodies("scenes")[route]
    with served.client.stream("POST", route, json=body) as reply:
        parts = (json.loads(line) for line in reply.iter_lines())
        first = next(parts)
        assert begun.wait(LONG)
        assert not first["done"]
        goes_on.set()
        *_, last = parts
    frame = last["vpt"]["frame"]
    assert frame.pop("age_at_end") >= frame["age_at_start"]
    assert first["vpt"] == {"frame": frame}


@pytest.mark.parametrize("stream", [False, True])
def test_a_source_that_is_not_there_is_told_to_clients_of_ollama(
    serve: Serve, stream: bool
) -> None:
    served = serve(watch=(SCENES,))
    for route, body in ollama_bodies("door").items():
        reply = served.client.post(route, json={**body, "stream": stream})
        assert reply.status_code == 404
        assert "there is no source" in reply.json()["error"]
