"""Requests as well-known clients send them, and of each reply what that client reads."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from scripted import CLIP, PICTURE, PICTURE_TOKENS
from serving import MODEL, Served

if TYPE_CHECKING:
    import httpx

Serve = Callable[..., Served]
Body = dict[str, Any]
NO_KEY = {"Authorization": "Bearer none"}


def jpeg(picture: Image.Image = PICTURE) -> str:
    """``picture`` in base64, as cameras' software has it."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return base64.b64encode(stream.getvalue()).decode()


def image(picture: Image.Image = PICTURE, **fields: Any) -> Body:
    address = f"data:image/jpeg;base64,{jpeg(picture)}"
    return {"type": "image_url", "image_url": {"url": address, **fields}}


def text(words: str) -> Body:
    return {"type": "text", "text": words}


def ask(served: Served, body: Body, path: str = "/v1/chat/completions") -> httpx.Response:
    return served.client.post(path, json=body, headers=NO_KEY)


def refusal(reply: httpx.Response) -> Body:
    """The error in a reply, which is JSON of the one shape that all of them can read."""
    assert reply.status_code == 400
    assert reply.headers["Content-Type"] == "application/json"
    error: Body = reply.json()["error"]
    assert error["message"] and error["type"] == "invalid_request_error"
    return error


def chunks_of(reply: httpx.Response) -> list[Body]:
    assert reply.status_code == 200
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    *lines, last = [line for line in reply.text.splitlines() if line.startswith("data: ")]
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def content_of(chunks: list[Body]) -> str:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


class Frigate:
    """Blakeblackshear's recorder, which has descriptions written of what moved."""

    PROMPT = "Analyze the sequence of images containing the person."

    @classmethod
    def describe(cls, pictures: int, detail: Body, **options: Any) -> Body:
        content = [text(cls.PROMPT), *[image(**detail) for _ in range(pictures)]]
        return {"model": MODEL, "messages": [{"role": "user", "content": content}], **options}

    @staticmethod
    def probe(*parts: Body) -> Body:
        """With which it finds out what a picture costs."""
        content = [text("."), *parts]
        return {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 1}


class TestFrigateOpenAI:
    """Its provider ``openai``; the address may lack /v1."""

    DETAIL: Body = {"detail": "low"}

    @pytest.mark.parametrize("prefix", ["/v1", ""])
    def test_it_finds_the_size_of_the_context(self, prefix: str, serve: Serve) -> None:
        models = serve().client.get(f"{prefix}/models", headers=NO_KEY).json()["data"]
        assert [each["max_model_len"] for each in models if each["id"] == MODEL] == [2048]

    def test_a_snapshot_is_described(self, serve: Serve) -> None:
        reply = ask(serve(f"{CLIP}", " A person. "), Frigate.describe(1, self.DETAIL))
        message = reply.json()["choices"][0]["message"]
        assert message["content"].strip() == "A person."
        assert "reasoning_content" not in message

    def test_several_pictures_are_refused_with_the_setting_that_sends_one(
        self, serve: Serve
    ) -> None:
        error = refusal(ask(serve(), Frigate.describe(10, self.DETAIL)))
        assert error["code"] == "too_many_images"
        assert "use_snapshot: true" in error["message"]

    def test_a_review_is_refused_by_the_name_of_its_field(self, serve: Serve) -> None:
        schema = {"name": "ReviewMetadata", "strict": True, "schema": {"type": "object"}}
        wanted = {"type": "json_schema", "json_schema": schema}
        error = refusal(ask(serve(), Frigate.describe(1, self.DETAIL, response_format=wanted)))
        assert (error["code"], error["param"]) == ("unsupported_parameter", "response_format")

    def test_its_chat_with_tools_is_refused_by_the_name_of_its_field(self, serve: Serve) -> None:
        tool = {"type": "function", "function": {"name": "search_objects", "parameters": {}}}
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Who came today?"}],
            "tools": [tool],
            "tool_choice": "auto",
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        assert refusal(ask(serve(), body))["param"] == "tools"


class TestFrigateLlamaCpp:
    """Its provider ``llamacpp``, which looks at the server before it asks."""

    def test_it_finds_the_model_its_context_and_that_it_sees(self, serve: Serve) -> None:
        (model,) = serve().client.get("/v1/models").json()["data"]
        assert MODEL in {model["id"], *model["aliases"]}
        assert model["architecture"]["input_modalities"] == ["text", "image"]
        assert model["meta"]["n_ctx"] == 2048

    def test_it_reads_the_properties(self, serve: Serve) -> None:
        props = serve().client.get("/props", params={"model": MODEL}).json()
        assert props["default_generation_settings"]["n_ctx"] == 2048
        assert props["modalities"] == {"vision": True, "audio": False}
        assert props["chat_template_caps"]["supports_tools"] is False
        assert "enable_thinking" not in props.get("chat_template", "")

    def test_another_models_properties_are_not_there(self, serve: Serve) -> None:
        assert serve().client.get("/props", params={"model": "other"}).status_code == 404

    def test_the_probe_with_a_grey_picture_counts_its_visual_tokens(self, serve: Serve) -> None:
        served = serve("A", "B")
        counts = []
        for size in ((84, 56), (168, 56)):
            body = Frigate.probe(image(Image.new("RGB", size, (128, 128, 128))))
            counts.append(ask(served, body).json()["usage"]["prompt_tokens"])
        assert counts[1] - counts[0] == PICTURE_TOKENS

    def test_the_probe_without_a_picture_is_refused(self, serve: Serve) -> None:
        """Frigate then estimates what a picture costs by its pixels."""
        assert refusal(ask(serve(), Frigate.probe()))["code"] == "image_required"

    def test_a_snapshot_is_described(self, serve: Serve) -> None:
        reply = ask(serve("A person."), Frigate.describe(1, {}, temperature=0.1, top_k=1))
        assert reply.json()["choices"][0]["message"]["content"].strip() == "A person."

    def test_a_stream_ends_with_counts(self, serve: Serve) -> None:
        options = {"stream_options": {"include_usage": True}, "timings_per_token": True}
        reply = ask(serve("A person."), Frigate.describe(1, {}, stream=True, **options))
        chunks = chunks_of(reply)
        assert content_of(chunks) == "A person."
        usage = chunks[-1]["usage"]
        assert isinstance(usage["prompt_tokens"], int)
        assert usage["completion_tokens"] == len("A person.") + 1


class TestLLMVision:
    """Home Assistant's custom component llmvision."""

    PROMPT = "Describe what happens in the picture in one sentence."

    def body(self, *pictures: Image.Image, **options: Any) -> Body:
        content = []
        for number, picture in enumerate(pictures, 1):
            content += [text(f"Image {number}:"), image(picture)]
        content.append(text(self.PROMPT))
        system = {"role": "system", "content": "You describe pictures of cameras."}
        messages = [system, {"role": "user", "content": content}]
        return {"model": MODEL, "messages": messages, "temperature": 0.5, "top_p": 0.9, **options}

    def test_its_provider_localai_finds_the_server_ready(self, serve: Serve) -> None:
        assert serve().client.get("/readyz").status_code == 200

    @pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
    def test_a_picture_is_described(self, limit: str, serve: Serve) -> None:
        reply = ask(serve("A cat.", perception="off"), self.body(PICTURE, **{limit: 5}))
        choice = reply.json()["choices"][0]
        assert isinstance(choice["message"]["content"], str)  # drawn at random
        assert reply.json()["usage"]["completion_tokens"] <= 5

    def test_what_it_says_of_several_pictures_can_be_read(self, serve: Serve) -> None:
        error = refusal(ask(serve(), self.body(PICTURE, PICTURE, PICTURE, max_tokens=100)))
        assert error["code"] == "too_many_images"

    def test_a_title_without_a_picture_is_refused(self, serve: Serve) -> None:
        """It then calls the event by a name of its own."""
        messages = [
            {"role": "user", "content": [text("You write titles.")]},
            {"role": "user", "content": [text("Create a title for this text: A cat.")]},
        ]
        body = {"model": MODEL, "messages": messages, "temperature": 0.5, "top_p": 0.9}
        assert refusal(ask(serve(), body))["code"] == "image_required"

    def test_the_check_of_its_provider_for_other_servers_is_refused(self, serve: Serve) -> None:
        """Which is why it is to be told that this one is LocalAI."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": [text("Hi")]}]}
        assert refusal(ask(serve(), body))["code"] == "image_required"


class TestOpenWebUI:
    """It sends the whole history each time, and asks for a title and tags besides."""

    def turn(self, words: str, *pictures: Image.Image) -> Body:
        parts = [image(picture) for picture in pictures]
        return {"role": "user", "content": [text(words), *parts]}

    def body(self, *messages: Body) -> Body:
        usage = {"include_usage": True}
        return {"model": MODEL, "messages": messages, "stream": True, "stream_options": usage}

    def test_a_picture_is_asked_about_in_several_turns(self, serve: Serve) -> None:
        served = serve("A cat.", "Grey.")
        first = chunks_of(ask(served, self.body(self.turn("What is it?", PICTURE))))
        answer = {"role": "assistant", "content": content_of(first)}
        again = {"role": "user", "content": "Which colour?"}
        second = chunks_of(ask(served, self.body(self.turn("What is it?", PICTURE), answer, again)))
        assert content_of(second) == "Grey."
        assert second[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] > PICTURE_TOKENS

    def test_pictures_of_earlier_turns_may_be_there(self, serve: Serve) -> None:
        other = Image.new("RGB", (96, 64), "red")
        history = [
            self.turn("What is it?", PICTURE),
            {"role": "assistant", "content": "A cat."},
            self.turn("And this?", other),
        ]
        chunks = chunks_of(ask(serve("A wall."), self.body(*history)))
        assert content_of(chunks) == "A wall."
        (whole,) = [chunk["vpt"] for chunk in chunks if "looks" in chunk.get("vpt", {})]
        assert whole["passed_over"] == 2

    def test_a_title_and_tags_are_refused_as_json(self, serve: Serve) -> None:
        prompt = "### Task:\nGenerate a concise title.\n### Chat History:\nUSER: What is it?"
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "stream": False,
            "max_completion_tokens": 1000,
        }
        assert refusal(ask(serve(), body))["code"] == "image_required"

    def test_a_refused_stream_is_json_and_not_a_stream(self, serve: Serve) -> None:
        """It waits for ever for the events of one with a status of 400."""
        body = self.body({"role": "user", "content": "Hello!"})
        assert refusal(ask(serve(), body))["code"] == "image_required"

    def test_the_models_are_listed_for_its_menu(self, serve: Serve) -> None:
        reply = serve().client.get("/v1/models", headers=NO_KEY).json()
        assert [(each["id"], each["object"]) for each in reply["data"]] == [(MODEL, "model")]


class TestLiveVLMWebUI:
    """It finds servers at port 8000 by itself."""

    HEADERS = {"Authorization": "Bearer EMPTY"}

    def test_it_finds_the_model(self, serve: Serve) -> None:
        reply = serve().client.get("/v1/models")
        assert reply.status_code == 200
        assert reply.json()["data"][0]["id"] == MODEL

    def test_a_frame_is_described(self, serve: Serve) -> None:
        content = [text("Describe what you see."), image()]
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 512,
            "temperature": 0.7,
        }
        served = serve("A street.", perception="off")
        reply = served.client.post("/v1/chat/completions", json=body, headers=self.HEADERS)
        assert isinstance(reply.json()["choices"][0]["message"]["content"], str)  # drawn at random
