"""A model that thinks, calls and is shown several pictures, behind the server's routes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from scripted import PICTURE
from serving import Served, address_part, picture_part, text_part
from zoom import REPLY, call, zoom_bundle

from vpt_edge.runtime import Pipeline, VptError
from vpt_edge.runtime.testing import Script
from vpt_edge.server.service import Service
from vpt_edge.server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

Serve = "Callable[..., Served]"
FIRST = f"<think>Small.</think>Let me see. {call((90, 10, 96, 20))}"
LAST = "<think>Red, I think.</think>\n\nRed."
THOUGHTS = "Small.\n\nRed, I think."


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    """Opens a server for turns on a bundle whose way of looking is in words."""
    opened = []

    def start(*turns: str, **block: Any) -> Served:
        served = Served(zoom_bundle(tmp_path, monkeypatch, **block), *turns)
        opened.append(served)
        return served

    yield start
    for served in opened:
        served.close()


def chunks_of(reply: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    return [json.loads(line) for line in lines if line.startswith("{")]


def joined(chunks: list[dict[str, Any]], name: str) -> str:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return "".join(delta.get(name) or "" for delta in deltas)


def test_thoughts_are_reasoning_content(serve: Callable[..., Served]) -> None:
    message = serve(FIRST, LAST).ask().json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Red.", THOUGHTS)


def test_they_are_streamed_as_they_come(serve: Callable[..., Served]) -> None:
    chunks = chunks_of(serve(FIRST, LAST).ask(stream=True))
    assert joined(chunks, "reasoning_content") == THOUGHTS
    assert joined(chunks, "content") == "Red."
    assert [chunk["vpt"]["look"]["box"] for chunk in chunks if "look" in chunk.get("vpt", {})] == [
        [90, 10, 96, 20]
    ]
    for chunk in chunks:
        assert "<" not in json.dumps(chunk)


def test_where_nothing_is_thought_there_is_no_field(serve: Callable[..., Served]) -> None:
    message = serve("Red.").ask().json()["choices"][0]["message"]
    assert "reasoning_content" not in message


def test_a_refused_call_is_told(serve: Callable[..., Served]) -> None:
    chunks = chunks_of(serve("Hm <call>{</call>", "Red.").ask(stream=True))
    assert [chunk["vpt"]["refused"] for chunk in chunks if "refused" in chunk.get("vpt", {})] == [
        REPLY
    ]
    assert joined(chunks, "content") == "Red."


def test_behind_the_last_round_the_answer_is_streamed(serve: Callable[..., Served]) -> None:
    """A refusal is a round: what comes behind the last is the answer for certain."""
    chunks = chunks_of(serve("Hm <call>{</call>", "It is red.", most_looks=1).ask(stream=True))
    contents = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert len([content for content in contents if content]) > 3
    assert joined(chunks, "content") == "It is red."


def ollama(served: Served, route: str = "chat", **fields: Any) -> httpx.Response:
    data = picture_part(PICTURE)["image_url"]["url"].partition(",")[2]
    text = f"{sorted(fields)} {fields.get('stream')}?"  # a script wants another question each time
    if route == "generate":
        body = {"prompt": text, "images": [data]}
    else:
        body = {"messages": [{"role": "user", "content": text, "images": [data]}]}
    return served.client.post(f"/api/{route}", json={**body, **fields})


def test_ollama_calls_it_thinking(serve: Callable[..., Served]) -> None:
    served = serve(*[FIRST, LAST] * 5)
    message = ollama(served, stream=False).json()["message"]
    assert (message["content"], message["thinking"]) == ("Red.", THOUGHTS)
    message = ollama(served, stream=False, think=False).json()["message"]
    assert message == {"role": "assistant", "content": "Red."}
    lines = [json.loads(line) for line in ollama(served, think=True).text.splitlines()]
    assert "".join(line["message"].get("thinking", "") for line in lines) == THOUGHTS
    assert "".join(line["message"]["content"] for line in lines) == "Red."
    lines = [
        json.loads(line) for line in ollama(served, "generate", keep_alive=5).text.splitlines()
    ]
    assert "".join(line.get("thinking", "") for line in lines) == THOUGHTS
    lines = [
        json.loads(line) for line in ollama(served, think=False, keep_alive=5).text.splitlines()
    ]
    assert not any("thinking" in line["message"] for line in lines)


def ask_about(served: Served, *parts: Any, text: str = "What?") -> httpx.Response:
    body = {"messages": [{"role": "user", "content": [text_part(text), *parts]}]}
    return served.client.post("/v1/chat/completions", json=body)


def test_a_question_is_about_several_pictures(serve: Callable[..., Served]) -> None:
    served = serve(call((100, 10, 140, 50), source=1), "Red.", "Blue.", "Green.")
    wide = PICTURE.resize((180, 60))
    parts = (picture_part(PICTURE), picture_part(wide))
    details = ask_about(served, *parts).json()["vpt"]
    (look,) = details["looks"]
    assert (look["picture"], look["box"], look["source"]) == (1, [100, 10, 140, 50], 1)
    assert (details["size"], details["sizes"]) == ([96, 64], [[96, 64], [180, 60]])
    for number in (0, 1):  # each is kept by its file
        details = ask_about(served, *parts[number:], text=f"{number}?").json()["vpt"]
        assert details["usage"]["vision_runs"] == 0


def test_more_than_it_takes_are_refused(serve: Callable[..., Served]) -> None:
    reply = ask_about(serve("Red."), *[picture_part(PICTURE)] * 4)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "too_many_images")
    assert "the newest message with pictures has 4, this model takes up to 3" in error["message"]


def test_their_files_are_limited_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        PICTURE.save(tmp_path / f"{name}.png")
    size = (tmp_path / "a.png").stat().st_size
    options = {"allow_files": tmp_path, "max_body": 2 * size + 10}
    with Served(zoom_bundle(tmp_path / "bundle", monkeypatch), "Red.", **options) as served:
        parts = [address_part(f"file://{tmp_path}/{name}.png") for name in ("a", "b", "c")]
        assert ask_about(served, *parts[:2]).status_code == 200
        error = ask_about(served, *parts).json()["error"]
        assert (error["code"], "together" in error["message"]) == ("image_too_large", True)


def test_their_pixels_are_limited_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = zoom_bundle(tmp_path, monkeypatch)
    with Served(bundle, "Red.", max_pixels=2 * 96 * 64) as served:
        assert ask_about(served, *[picture_part(PICTURE)] * 2).status_code == 200
        error = ask_about(served, *[picture_part(PICTURE)] * 3).json()["error"]
        assert (error["code"], "together" in error["message"]) == ("image_too_large", True)


def test_a_mode_that_the_model_does_not_have_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = zoom_bundle(tmp_path, monkeypatch)
    settings = Settings("tiny", perception="region")
    service = Service(lambda: Pipeline(bundle, opener=Script("Red.")), settings)
    with pytest.raises(VptError, match=r"perception 'region' is unknown .* one of: free, off;"):
        service.load()
    assert service.state == "loading"
    service.close()


def test_a_frame_is_asked_about_alone(serve: Callable[..., Served]) -> None:
    reply = ask_about(serve("Red."), picture_part(PICTURE), address_part("source:camera"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "too_many_images")
