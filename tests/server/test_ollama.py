"""ollama's own client for Python, and requests as Frigate and Home Assistant send them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from typing import Any

import ollama
import pytest
from scripted import PICTURE, REGION
from serving import LONG, Served, encode

Serve = Callable[..., Served]
# Frigate's own, and one of a user's, with which the script is kept to the word.
FRIGATE = {"temperature": 0.5, "repeat_penalty": 1.05, "presence_penalty": 0.3, "top_k": 1}


def jpeg() -> bytes:
    stream = io.BytesIO()
    PICTURE.save(stream, "JPEG")
    return stream.getvalue()


def client_of(served: Served) -> ollama.Client:
    return ollama.Client(served.url, timeout=LONG)


def message(text: str = "What?", **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, "images": [jpeg()], **fields}


def raw_message(text: str = "What?", **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, "images": [encode()], **fields}


def post(served: Served, route: str = "chat", **fields: Any) -> Any:
    reply = served.client.post(f"/api/{route}", json={"stream": False, **fields})
    return reply.status_code, reply.json()


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve(f"I look: {REGION}", "A dog.")


def test_the_model_is_listed_shown_and_running(served: Served) -> None:
    with client_of(served) as client:
        (listed,) = client.list().models
        assert listed.model == "tiny:latest"
        assert listed.size is not None and listed.size > 0
        assert listed.details is not None and listed.details.family == "qwen2_vl"
        (running,) = client.ps().models
        assert (running.name, running.digest) == ("tiny:latest", listed.digest)
        assert running.context_length == 2048
        for name in ("tiny", "tiny:latest"):
            shown = client.show(name)
            assert shown.capabilities == ["completion", "vision"]
            assert shown.modelinfo is not None
            assert shown.modelinfo["qwen2_vl.context_length"] == 2048
    assert served.client.get("/api/version").json()["version"]


def test_a_chat_is_answered_with_its_look_beside(served: Served) -> None:
    with client_of(served) as client:
        reply = client.chat("tiny", [message()])
    assert reply.message.content == "A dog."
    assert (reply.model, reply.done, reply.done_reason) == ("tiny", True, "stop")
    assert reply.eval_count is not None and reply.eval_count > len("A dog.")
    assert reply.prompt_eval_count is not None and reply.prompt_eval_count > 20
    for duration in (reply.total_duration, reply.load_duration, reply.prompt_eval_duration):
        assert duration is not None and duration > 0
    assert reply.eval_duration is not None and reply.eval_duration > 0


def test_looks_stand_beside_the_text(served: Served) -> None:
    _, reply = post(served, messages=[raw_message()])
    (look,) = reply["vpt"]["looks"]
    assert (look["kind"], look["box"]) == ("region", [0, 8, 60, 32])
    assert (reply["vpt"]["passed_over"], reply["vpt"]["ignored"]) == (0, [])


def test_a_chat_is_streamed(served: Served) -> None:
    with client_of(served) as client:
        parts = list(client.chat("tiny:latest", [message()], stream=True))
    assert "".join(part.message.content or "" for part in parts) == "A dog."
    assert [part.done for part in parts] == [*[False] * (len(parts) - 1), True]
    assert {part.model for part in parts} == {"tiny:latest"}
    assert parts[-1].eval_count is not None


def test_a_stream_is_lines_of_json_and_the_default(served: Served) -> None:
    reply = served.client.post("/api/chat", json={"messages": [raw_message()]})
    assert reply.headers["content-type"] == "application/x-ndjson"
    parts = lines(reply.text)
    (look,) = [part["vpt"]["look"] for part in parts if "look" in part["vpt"]]
    assert look["cells"] == [1, 2, 3, 2]
    assert "".join(part["message"]["content"] for part in parts) == "A dog."
    assert parts[-1]["vpt"]["finish_reason"] == "stop"


def test_a_prompt_is_answered_and_streamed(serve: Serve) -> None:
    with client_of(serve("A dog.", "A cat.")) as client:
        reply = client.generate("tiny", "What?", system="Be brief.", images=[jpeg()])
        assert (reply.response, reply.done_reason) == ("A dog.", "stop")
        parts = list(client.generate("tiny", "Who?", images=[jpeg()], stream=True))
        assert "".join(part.response or "" for part in parts) == "A cat."
        assert parts[-1].done


def test_the_asynchronous_client_is_answered(serve: Serve) -> None:
    served = serve("A dog.", "A cat.")

    async def ask() -> tuple[str, str]:
        async with ollama.AsyncClient(served.url, timeout=LONG) as client:
            whole = await client.chat("tiny", [message()])
            text = ""
            async for part in await client.chat("tiny", [message("Who?")], stream=True):
                text += part.message.content or ""
        return whole.message.content or "", text

    assert asyncio.run(ask()) == ("A dog.", "A cat.")


def test_earlier_turns_are_told_and_earlier_pictures_passed_over(serve: Serve) -> None:
    served = serve("Brown.")
    _, reply = post(
        served,
        messages=[
            {"role": "system", "content": "Be brief."},
            raw_message("Old?"),
            {"role": "assistant", "content": "Old."},
            raw_message("What?"),
            {"role": "assistant", "content": "A dog.", "thinking": "Hm."},
            {"role": "user", "content": "Which colour?"},
        ],
    )
    assert reply["message"]["content"] == "Brown."
    assert reply["vpt"]["passed_over"] == 2


def test_nothing_to_ask_loads_the_model(serve: Serve) -> None:
    served = serve("A dog.")
    for route, fields in (("chat", {"messages": []}), ("chat", {}), ("generate", {"prompt": ""})):
        status, reply = post(served, route, model="tiny", keep_alive="5m", **fields)
        assert (status, reply["done"], reply["done_reason"]) == (200, True, "load")


CHANGES_NOTHING = [
    {"format": ""},
    {"tools": []},
    {"think": False},
    {"keep_alive": -1},
    {"keep_alive": "300s"},
    {"keep_alive": 0},
    {"logprobs": False},
    {"truncate": True},
    {"options": {}},
    {"options": {"num_ctx": 8192, "num_gpu": 1, "num_thread": 8, "use_mmap": True}},
    {"options": {"num_predict": -1, "seed": -1, "top_k": 0, "repeat_last_n": 64}},
    {"options": {"temperature": 0, "top_p": 0.9, "top_k": 40, "seed": 7}},
    {"options": {"repeat_penalty": 1.0, "presence_penalty": 0, "mirostat": 0}},
    {"options": {"stop": []}},
]


@pytest.mark.parametrize("fields", CHANGES_NOTHING, ids=str)
def test_what_changes_nothing_is_passed_over(serve: Serve, fields: dict[str, Any]) -> None:
    status, reply = post(serve("A dog."), messages=[raw_message()], **fields)
    assert (status, reply["message"]["content"]) == (200, "A dog.")
    assert reply["vpt"]["ignored"] == []


def test_ways_of_sampling_that_are_not_done_are_named_in_the_reply(serve: Serve) -> None:
    options = {**FRIGATE, "mirostat": 2, "mirostat_tau": 5.0}
    _, reply = post(serve("A dog."), messages=[raw_message()], options=options)
    assert reply["vpt"]["ignored"] == ["repeat_penalty", "presence_penalty", "mirostat"]


SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("chat", {"format": "json"}, "format"),
    ("chat", {"format": SCHEMA}, "format"),
    ("chat", {"tools": [TOOL]}, "tools"),
    ("chat", {"think": True}, "think"),
    ("chat", {"think": "high"}, "think"),
    ("chat", {"prompt": "What?"}, "prompt"),
    ("chat", {"stream": "no"}, "stream"),
    ("chat", {"options": []}, "options"),
    ("chat", {"options": {"temprature": 1}}, "options.temprature"),
    ("chat", {"options": {"temperature": "hot"}}, "options.temperature"),
    ("chat", {"options": {"temperature": -1}}, "options.temperature"),
    ("chat", {"options": {"top_p": 2}}, "options.top_p"),
    ("chat", {"options": {"seed": 1.5}}, "options.seed"),
    ("chat", {"options": {"num_predict": 0}}, "options.num_predict"),
    ("chat", {"options": {"num_predict": True}}, "options.num_predict"),
    ("chat", {"options": {"stop": [1]}}, "options.stop"),
    ("chat", {"options": {"repeat_penalty": "x"}}, "options.repeat_penalty"),
    ("chat", {"options": {"perception": "both"}}, "options.perception"),
    ("chat", {"options": {"assistant_prefix": "<image>"}}, "assistant_prefix"),
    ("chat", {"options": {"draft_tokens": 16}}, "draft_tokens"),
    ("chat", {"messages": {}}, "messages"),
    ("chat", {"messages": [1]}, "messages[0]"),
    ("chat", {"messages": [{"content": "x"}]}, "messages[0].role"),
    ("chat", {"messages": [raw_message(content=1)]}, "messages[0].content"),
    ("chat", {"messages": [raw_message(images="x")]}, "messages[0].images"),
    ("chat", {"messages": [raw_message(images=[1])]}, "messages[0].images"),
    ("chat", {"messages": [raw_message(images=["?"])]}, "base64"),
    ("chat", {"messages": [raw_message(images=["AAAA"])]}, "picture"),
    ("chat", {"messages": [raw_message(images=[encode()] * 2)]}, "use_snapshot"),
    ("chat", {"messages": [raw_message(images=[])]}, "images of the last user message"),
    ("chat", {"messages": [raw_message(tool_calls=[TOOL])]}, "messages[0].tool_calls"),
    ("chat", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ("chat", {"messages": [raw_message(role="assistant")]}, "messages[0] has a picture"),
    ("generate", {"suffix": "x"}, "suffix"),
    ("generate", {"template": "{{ .Prompt }}"}, "template"),
    ("generate", {"context": [1, 2]}, "context"),
    ("generate", {"raw": True}, "raw"),
    ("generate", {"format": "json"}, "format"),
    ("generate", {"width": 64}, "width"),
    ("generate", {"prompt": 1}, "prompt"),
    ("generate", {"images": []}, "images of the last user message"),
]


@pytest.fixture(scope="module")
def refusing(bundle: Any) -> Any:
    with Served(bundle) as served:
        yield served


@pytest.mark.parametrize(("route", "fields", "name"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_not_done_is_refused_by_name(
    refusing: Served, route: str, fields: dict[str, Any], name: str
) -> None:
    asked: dict[str, Any] = {"messages": [raw_message()]}
    if route == "generate":
        asked = {"prompt": "What?", "images": [encode()]}
    status, reply = post(refusing, route, **{**asked, **fields})
    assert status == 400
    assert list(reply) == ["error"]
    assert name in reply["error"]


def test_errors_are_those_of_the_client(refusing: Served) -> None:
    with client_of(refusing) as client:
        with pytest.raises(ollama.ResponseError, match="model 'other' not found") as caught:
            client.show("other")
        assert caught.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match="format is") as caught:
            client.chat("tiny", [message()], format="json")
        assert caught.value.status_code == 400
        with pytest.raises(ollama.ResponseError, match="no message has a picture") as caught:
            list(client.chat("tiny", [{"role": "user", "content": "Hi"}], stream=True))
        assert caught.value.status_code == 400


def test_an_unknown_route_is_refused_in_ollamas_shape(refusing: Served) -> None:
    reply = refusing.client.post("/api/pull", json={"model": "tiny"})
    assert reply.status_code == 404
    assert reply.json() == {"error": "POST /api/pull: Not Found"}


def test_a_server_that_loads_says_so(bundle: Any) -> None:
    with Served(bundle, "A dog.") as served:
        served.listener.service.state = "loading"
        with client_of(served) as client, pytest.raises(ollama.ResponseError) as caught:
            client.list()
        assert caught.value.status_code == 503
        served.listener.service.state = "ready"


def test_frigate_shows_the_model_and_describes_a_snapshot(serve: Serve) -> None:
    """One picture, a marker in the text for where it is, options of its own."""
    served = serve("A dog.")
    with client_of(served) as client:
        assert client.show("tiny").get("error") is None
        assert "thinking" not in (client.show("tiny").get("capabilities") or [])
        content = "Describe the dog.\n[img]"
        asked = {"role": "user", "content": content, "images": [jpeg()]}
        reply = client.chat(
            model="tiny", messages=[asked], options={**FRIGATE, "num_ctx": 4096}, keep_alive="1h"
        )
        names = sorted(entry.get("name", entry.get("model", "")) for entry in client.list().models)
    assert (reply.get("message") or {}).get("content") == "A dog."
    assert names == ["tiny:latest"]


def test_frigates_review_with_a_schema_hears_why_it_fails(refusing: Served) -> None:
    with client_of(refusing) as client, pytest.raises(ollama.ResponseError, match="format is"):
        client.chat(model="tiny", messages=[message()], format=SCHEMA, options=FRIGATE)


def test_frigate_counts_the_tokens_of_a_picture(serve: Serve) -> None:
    with client_of(serve("A dog.")) as client:
        asked = {"role": "user", "content": ".", "images": [jpeg()]}
        options = {**FRIGATE, "num_predict": 1}
        reply = client.chat(model="tiny", messages=[asked], options=options)
    assert reply.get("prompt_eval_count", 0) > 6
    assert (reply.eval_count, reply.done_reason) == (1, "length")


def test_a_marker_is_not_read_to_the_model(serve: Serve) -> None:
    served = serve("A dog.", "A dog.", "A dog.")
    counts = []
    for text in ("What?", "What?\n[img]", "What? [img] [img]"):
        _, reply = post(served, messages=[raw_message(text)], options={"perception": "off"})
        counts.append(reply["prompt_eval_count"])
    assert counts[0] == counts[1]
    assert counts[2] == counts[0] + len("  [img]")  # there is one picture


def test_home_assistant_lists_models_and_streams_a_task(serve: Serve) -> None:
    """A system prompt first, the picture of an attachment, no tools, numbers as floats."""
    served = serve("A dog at the door.")

    async def ask() -> tuple[set[str], str, list[bool]]:
        async with ollama.AsyncClient(host=served.url, timeout=LONG) as client:
            listed = await client.list()
            names = {entry["model"] for entry in listed.get("models", [])}
            assert (await client.ps()).models
            system = ollama.Message(
                role="system", content="You are a voice assistant.\nIt is night."
            )
            user = ollama.Message(
                role="user",
                content="Who is at the door?",
                images=[ollama.Image(value=base64.b64encode(jpeg()).decode())],
            )
            stream = await client.chat(
                model=sorted(names)[0],
                messages=[system, user],
                tools=None,
                stream=True,
                keep_alive=-1,
                options={"num_ctx": 8192.0},
                think=False,
                format=None,
            )
            text = ""
            done = []
            async for part in stream:
                said = part["message"]
                assert said.get("tool_calls") is None
                assert said.get("thinking") is None
                text += said.get("content") or ""
                done.append(bool(part.done))
        return names, text, done

    names, text, done = asyncio.run(ask())
    assert names == {"tiny:latest"}
    assert text == "A dog at the door."
    assert done[-1] and not any(done[:-1])


def test_home_assistants_structured_task_hears_why_it_fails(refusing: Served) -> None:
    async def ask() -> None:
        async with ollama.AsyncClient(host=refusing.url, timeout=LONG) as client:
            stream = await client.chat("tiny", [message()], stream=True, format=SCHEMA)
            async for _ in stream:
                pass

    with pytest.raises(ollama.ResponseError, match="format is"):
        asyncio.run(ask())
