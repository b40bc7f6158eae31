from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from scripted import CLIP, PICTURE, PICTURE_TOKENS, REGION
from serving import Served, question

from vpt_edge.runtime.errors import SessionError
from vpt_edge.server import completions
from vpt_edge.server.ask_options import PIXELS

Serve = Callable[..., Served]


def read_events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def contents(chunks: list[Any]) -> list[str]:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


def test_an_answer_has_its_look_beside_the_text(serve: Serve) -> None:
    reply = serve(f"I look: {REGION}", "A dog.").ask().json()
    choice = reply["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "A dog.", "refusal": None}
    assert choice["finish_reason"] == "stop"
    (look,) = reply["vpt"]["looks"]
    assert (look["kind"], look["cells"], look["box"]) == ("region", [1, 2, 3, 2], [0, 8, 60, 32])


def test_a_stream_withholds_text_of_a_turn_that_looks_again(serve: Serve) -> None:
    served = serve(f"I look: {REGION}", "A dog.")
    chunks = read_events(served.ask(stream=True).text)
    assert "".join(contents(chunks)) == "A dog."
    assert len(contents(chunks)) > 1  # behind the last look it comes as it is generated
    (look,) = [chunk["vpt"]["look"] for chunk in chunks if "look" in chunk.get("vpt", {})]
    assert look["box"] == [0, 8, 60, 32]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_without_a_look_gives_its_text_at_the_end_of_the_turn(serve: Serve) -> None:
    chunks = read_events(serve("A dog.").ask(stream=True).text)
    assert contents(chunks) == ["A dog."]
    pieces = [chunk["vpt"]["piece"] for chunk in chunks if "piece" in chunk.get("vpt", {})]
    assert "".join(pieces) == "A dog."


def test_a_stream_without_perception_gives_its_text_as_it_comes(serve: Serve) -> None:
    chunks = read_events(serve("A dog.").ask(stream=True, perception="off").text)
    assert contents(chunks) == ["A", " d", "o", "g", "."]  # a space may be the last


def test_usage_comes_when_it_is_asked_for(serve: Serve) -> None:
    served = serve("A dog.")
    chunks = read_events(served.ask(stream=True, stream_options={"include_usage": True}).text)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == len("A dog.") + 1


def test_an_error_before_the_first_token_has_a_status(serve: Serve) -> None:
    served = serve("A dog.")
    reply = served.ask(stream=True, temperature=-1)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert "temperature" in reply.json()["error"]["message"]


def test_a_request_has_an_id(serve: Serve) -> None:
    served = serve("One.", "Two.")
    ids = {served.client.get("/health").headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2


def test_a_probe_of_one_token_counts_the_pictures(serve: Serve) -> None:
    served = serve("A dog.", "A dog.")
    probe = {"text": ".", "max_tokens": 1, "perception": "off"}
    one = served.ask(**probe).json()
    assert one["choices"][0]["finish_reason"] == "length"
    assert one["usage"]["completion_tokens"] == 1
    larger = served.ask(**probe, picture=PICTURE.resize((336, 336))).json()
    more = larger["usage"]["prompt_tokens"] - one["usage"]["prompt_tokens"]
    assert more == 12 * 12 - PICTURE_TOKENS


def test_a_first_view_of_few_pixels_costs_few_tokens(serve: Serve) -> None:
    served = serve("A dog.", "A dog.", "A dog.")
    usual, small = (
        served.ask(perception="off", **budget).json()["usage"]["prompt_tokens"]
        for budget in ({}, {"first_max_pixels": 784})
    )
    assert usual - small == PICTURE_TOKENS - 1
    assert served.ask(perception="off", first_max_pixels=None).status_code == 200


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_beyond_the_bundles_are_refused_by_their_name(serve: Serve, name: str) -> None:
    reply = serve("A dog.").ask(**{name: 12_845_057})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_value", name)
    assert "12845056" in error["message"]


def test_the_second_question_about_a_picture_is_charged_for_its_own_tokens(serve: Serve) -> None:
    served = serve("A dog.", "A cat.")
    first = served.ask().json()["usage"]
    second = served.ask(text="Who is it?").json()["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    cached = second["prompt_tokens_details"]["cached_tokens"]
    assert PICTURE_TOKENS < cached < second["prompt_tokens"]


@pytest.mark.parametrize("turn", [f"I look: {REGION}", CLIP, f"{'Many words. ' * 20}{CLIP}"])
def test_what_is_generated_before_a_look_is_no_prompt(serve: Serve, turn: str) -> None:
    served = serve("A dog.", turn, "A dog.")
    plain = served.ask().json()["usage"]["prompt_tokens"]
    reply = served.ask(text="Who?").json()
    usage = reply["usage"]
    (look,) = reply["vpt"]["looks"]
    template = 40
    assert 0 <= usage["prompt_tokens"] - (plain - 1) - look["tokens"] < template
    assert usage["completion_tokens"] == reply["vpt"]["usage"]["generated_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_words_in_front_of_the_answer_are_part_of_it(serve: Serve) -> None:
    served = serve("dog.", "dog.")
    for stream in (False, True):
        text = f"What? {stream}"
        reply = served.ask(text=text, assistant_prefix="A ", perception="off", stream=stream)
        text = reply.text
        if stream:
            assert "".join(contents(read_events(text))) == "A dog."
        else:
            assert json.loads(text)["choices"][0]["message"]["content"] == "A dog."


REFUSED = [
    ({"assistant_prefix": "<image>"}, "invalid_value", "assistant_prefix"),
    ({"assistant_prefix": "<|image_pad|>"}, "invalid_value", "assistant_prefix"),
    ({"draft_tokens": 16}, "invalid_value", "draft_tokens"),
    ({"text": "<video>"}, "invalid_prompt", "messages"),
    ({"text": "<|image_pad|>"}, "invalid_prompt", "messages"),
    ({"text": "long " * 1000}, "context_length_exceeded", "messages"),
    ({"model": "other"}, "model_not_found", "model"),
    ({"temperature": -1}, "invalid_value", "temperature"),
]


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED, ids=lambda value: str(value)[:30])
def test_a_refusal_names_the_field_streamed_or_not(
    serve: Serve, fields: dict[str, Any], code: str, param: str
) -> None:
    served = serve("A dog.")
    for stream in (False, True):
        reply = served.ask(stream=stream, **fields)
        error = reply.json()["error"]
        assert (error["code"], error["param"]) == (code, param)
        assert reply.status_code == {"model_not_found": 404}.get(code, 400)
        assert reply.headers["content-type"] == "application/json"


def test_the_failure_of_a_route_is_told_in_json(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise ZeroDivisionError("the secret")

    served = serve("A dog.")
    monkeypatch.setattr(completions, "read_chat_request", fail)
    reply = served.ask()
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert "secret" not in reply.text
    monkeypatch.undo()
    with httpx.Client(base_url=served.url) as client:
        assert client.post("/v1/chat/completions", json=question()).status_code == 200


def test_a_refusal_takes_no_thread(serve: Serve) -> None:
    served = serve()
    before = threading.active_count()
    for path in ("/v1/chat/completions", "/nowhere"):
        assert served.client.post(path, json={}).status_code in (400, 404)
    assert threading.active_count() <= before


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_pipeline_cannot_do_is_said_to_the_operator_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    lines = list[str]()

    def fail(*given: object) -> None:
        raise SessionError("the GPU is gone")

    def log(text: str, *values: object) -> None:
        lines.append(text % values)

    served = serve("A dog.")
    assert served.ask(stream=stream, temperature=-1).status_code == 400
    monkeypatch.setattr(logging.getLogger("vpt_edge.server"), "error", log)
    monkeypatch.setattr(served.script.sessions["decoder"], "run", fail)
    assert served.ask(stream=stream).status_code == 500
    (line,) = lines
    assert line.endswith(" failed: the GPU is gone")


def test_the_model_s_name_may_hold_a_slash(serve: Serve) -> None:
    served = serve("A dog.", model="org/model")
    assert served.client.get("/v1/models").json()["data"][0]["id"] == "org/model"
    for path in ("/v1/models/org/model", "/models/org%2Fmodel"):
        assert served.client.get(path).json()["id"] == "org/model"
    assert served.client.get("/v1/models/org/other").json()["error"]["code"] == "model_not_found"
    assert served.client.get("/v1/models/").json()["object"] == "list"
    modes = ["region", "reencode", "free", "off"]
    says = {"perception": modes, "max_looks": 1, "max_images": 1}
    assert served.client.get("/v1/models/org/model").json()["vpt"] == says
