"""A watch that is asked over HTTP, at a real server."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sources import CameraSource, frame

from vpt_edge import live
from vpt_edge.live.health import Health
from vpt_edge.live.watch import Watch, watch
from vpt_edge.runtime import Pipeline, VptError
from vpt_edge.runtime.testing import Script
from vpt_edge.server import watch_service
from vpt_edge.server.watch_listener import WatchListener
from vpt_edge.server.watch_service import WatchService

if TYPE_CHECKING:
    from vpt_edge.live.source import Source
    from vpt_edge.runtime import Bundle

LONG = 30.0
CAMERA = "testsrc://?pattern=noise&width=96&height=64&rate=20"


class Asked:
    """A watch that is served: what its command does, without a command."""

    def __init__(self, answers: Watch, sources: list[Source], health: Health) -> None:
        self.answers = answers
        self._sources = sources
        self._health = health
        answers.pulse = self._beat
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _beat(self) -> None:
        self._health.beat(self._sources, 0)

    def _run(self) -> None:
        for _ in self.answers.events():
            pass

    def close(self) -> None:
        self.answers.close()
        self._thread.join(LONG)
        assert not self._thread.is_alive()


class Door:
    """A server at a free port, and the watch behind it."""

    def __init__(self, bundle: Bundle, stack: ExitStack) -> None:
        self.health = Health()
        self._bundle = bundle
        self._stack = stack
        self.service = WatchService(self.health, LONG, on_request=True)
        self.listener = WatchListener(self.service, "127.0.0.1", 0)
        stack.callback(self.listener.close)
        address = f"http://127.0.0.1:{self.listener.port}"
        self.client = stack.enter_context(httpx.Client(base_url=address, timeout=LONG))

    def watch(self, *turns: str, sources: Any = CAMERA, questions: Any = ("Open?",)) -> Watch:
        """Begin, with a model that says ``turns``, on request."""
        if isinstance(sources, str):
            sources = [self._stack.enter_context(live.open(sources))]
        pipeline = Pipeline(self._bundle, opener=Script(*turns))
        self._stack.enter_context(pipeline)
        answers = watch(pipeline, sources, *questions, every=None)
        self.service.open(answers, questions)
        self._stack.callback(Asked(answers, sources, self.health).close)
        return answers

    def ask(self, **fields: Any) -> httpx.Response:
        return self.client.post("/ask", json=fields)


@pytest.fixture
def door(bundle: Bundle) -> Iterator[Door]:
    with ExitStack() as stack:
        yield Door(bundle, stack)


@contextmanager
def in_thread(work: Callable[[], httpx.Response]) -> Iterator[list[httpx.Response]]:
    replies = list[httpx.Response]()
    thread = threading.Thread(target=lambda: replies.append(work()))
    thread.start()
    yield replies
    thread.join(LONG)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_answer_comes_as_a_line_of_json_would(door: Door) -> None:
    door.watch("yes", "three")
    reply = door.ask()
    assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")
    (line,) = reply.json()["answers"]
    assert (line["question"], line["answer"], line["source"]) == ("Open?", "yes", "testsrc://noise")
    assert line["age_at_start"] < LONG
    assert reply.json()["missing"] == 0
    (line,) = door.ask(question="How many?").json()["answers"]
    assert (line["question"], line["answer"]) == ("How many?", "three")


def test_all_questions_about_all_sources_are_answered(door: Door) -> None:
    sources = [CameraSource("a"), CameraSource("b")]
    answers = door.watch(*"1234", sources=sources, questions=("Open?", "Shut?"))
    with in_thread(door.ask) as replies:
        wait_until(lambda: answers.counts[0].requests == 1)
        for camera in sources:
            camera.show(dataclasses.replace(frame(0), source=camera.name))
    rows = [(row["source"], row["question"]) for row in replies[0].json()["answers"]]
    assert sorted(rows) == [("a", "Open?"), ("a", "Shut?"), ("b", "Open?"), ("b", "Shut?")]


def test_who_does_not_wait_is_told_that_it_was_taken(door: Door) -> None:
    answers = door.watch("yes")
    reply = door.ask(wait=False)
    assert (reply.status_code, reply.json()) == (202, {"sources": 1})
    wait_until(lambda: answers.counts[0].asked == 1)


def test_a_question_that_the_model_cannot_take_is_an_answer_too(door: Door) -> None:
    door.watch("yes")
    (row,) = door.ask(question="<|image_pad|>?").json()["answers"]
    assert "<|image_pad|>" in row["error"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"question": ""}, "question"),
        ({"question": 7}, "question"),
        ({"question": "a" * 5000}, "question"),
        ({"wait": "no"}, "wait"),
        ({"query": "Open?"}, "query"),
    ],
)
def test_what_cannot_be_asked(door: Door, body: Any, param: str) -> None:
    door.watch()
    reply = door.client.post("/ask", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_form_of_a_foreign_page_asks_nothing(door: Door) -> None:
    door.watch()
    assert door.client.post("/ask", content="{}").status_code == 415
    assert door.client.get("/ask").status_code == 405


def test_where_no_more_can_wait_it_says_so(door: Door) -> None:
    door.watch(sources=[CameraSource()])
    codes = [door.ask(wait=False).status_code for _ in range(17)]
    assert codes == [202] * 16 + [429]


def test_an_answer_that_does_not_come_in_time(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_service, "PATIENCE", 0.05)
    door.watch(sources=[CameraSource()])
    reply = door.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "no_answer")


def test_before_the_model_is_loaded_nothing_is_asked(door: Door) -> None:
    assert door.ask().status_code == 503
    health = door.client.get("/health")
    assert (health.status_code, health.json()["problems"]) == (503, ["the model is being loaded"])
    assert "vpt_camera_up{" not in door.client.get("/metrics").text


def test_a_watch_that_is_not_to_be_asked(bundle: Bundle) -> None:
    with ExitStack() as stack:
        door = Door(bundle, stack)
        door.service._on_request = False
        door.watch()
        reply = door.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "not_on_request")


def test_who_waits_at_the_end_is_told(door: Door) -> None:
    answers = door.watch(sources=[CameraSource()])
    with in_thread(door.ask) as replies:
        wait_until(lambda: answers.counts[0].requests == 1)
        door.service.close()
    assert (replies[0].status_code, replies[0].json()["error"]["code"]) == (503, "stopping")


def test_health_is_what_a_check_says(door: Door) -> None:
    camera = CameraSource()
    door.watch(sources=[camera])
    wait_until(lambda: door.health.status is not None)
    reply = door.client.get("/health")
    assert reply.status_code == 503
    assert reply.json()["problems"] == ["camera has given no frame yet: connecting"]
    camera.enter("live")
    camera.show(frame(0))
    wait_until(lambda: door.client.get("/health").status_code == 200)


def test_metrics_have_short_names_for_labels(door: Door) -> None:
    door.watch("yes")
    door.ask()
    reply = door.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert 'vpt_frames_asked_total{source="testsrc-noise"} 1.0' in reply.text
    assert "testsrc://" not in reply.text


def test_a_port_that_is_taken_is_said(door: Door) -> None:
    service = WatchService(Health(), LONG, on_request=True)
    with pytest.raises(VptError, match=r"the port \d+ of 127\.0\.0\.1 is in use"):
        WatchListener(service, "127.0.0.1", door.listener.port)


def test_nothing_is_left(bundle: Bundle) -> None:
    with ExitStack() as stack:
        Door(bundle, stack).client.get("/health")
    names = [thread.name for thread in threading.enumerate()]
    assert "vpt-edge-listen" not in names
