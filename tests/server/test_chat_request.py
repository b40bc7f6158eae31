from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import HUGE, json_values, nest

from vpt_edge.runtime.options import Exchange, Options
from vpt_edge.server.ask_options import PIXELS
from vpt_edge.server.chat_request import ChatRequest, read_chat_request
from vpt_edge.server.errors import RequestError
from vpt_edge.server.settings import Settings

SETTINGS = Settings(model="tiny", perception="region", max_messages=4, max_tokens=100)
ADDRESS = "data:image/png;base64,AAAA"
PICTURE = {"type": "image_url", "image_url": {"url": ADDRESS}}
TEXT = {"type": "text", "text": "What?"}


def user(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts), **fields}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages) or [user(TEXT, PICTURE)], **fields}


def read(data: Any) -> ChatRequest:
    return read_chat_request(data, SETTINGS)


def refusal(data: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(data)
    assert caught.value.status == 400
    return caught.value


CHANGES_NOTHING = [
    {"user": "me"},
    {"metadata": {"a": "b"}},
    {"store": False},
    {"service_tier": "auto"},
    {"safety_identifier": "x"},
    {"prompt_cache_key": "x"},
    {"cache_prompt": True},
    {"timings_per_token": True},
    {"parallel_tool_calls": False},
    {"n": 1},
    {"n": 1.0},
    {"logprobs": False},
    {"top_logprobs": 0},
    {"logit_bias": {}},
    {"presence_penalty": 0},
    {"frequency_penalty": 0.0},
    {"repeat_penalty": 1},
    {"min_p": 0},
    {"tools": []},
    {"tool_choice": "none"},
    {"tool_choice": "auto"},
    {"functions": []},
    {"response_format": {"type": "text"}},
    {"modalities": ["text"]},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"temperature": 0, "top_p": 1, "top_k": 40, "seed": 7},
    {"top_p": 1},
    {"seed": HUGE},
    {"stop": []},
    {"stream": False},
    {"model": "tiny"},
    {"stream_options": {"include_usage": False, "include_obfuscation": False}},
    {"tools": None, "n": None, "stop": None, "temperature": None, "unknown": None},
]


@pytest.mark.parametrize("fields", CHANGES_NOTHING, ids=str)
def test_what_changes_nothing_is_passed_over(fields: dict[str, Any]) -> None:
    plain = read(body())
    asked = read(body(**fields))
    assert (asked.options, asked.conversation) == (plain.options, plain.conversation)


NOT_DONE = [
    ("n", 2),
    ("n", True),  # is not 1
    ("logprobs", True),
    ("logprobs", 0),
    ("top_logprobs", 3),
    ("logit_bias", {"50256": -100}),
    ("frequency_penalty", -1),
    ("min_p", 0.1),
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("tool_choice", "required"),
    ("tool_choice", {"type": "function", "function": {"name": "f"}}),
    ("functions", [{"name": "f"}]),
    ("response_format", {"type": "json_object"}),
    ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "strict": True}}),
    ("modalities", ["text", "audio"]),
    ("audio", {"voice": "alloy"}),
    ("reasoning_effort", "high"),
    ("web_search_options", {}),
    ("maxtokens", 3),
    ("n", nest(900)),
    ("n", HUGE),
]


@pytest.mark.parametrize(("field", "value"), NOT_DONE, ids=lambda value: str(value)[:30])
def test_what_this_server_does_not_do_is_refused_by_name(field: str, value: Any) -> None:
    error = refusal(body(**{field: value}))
    assert (error.code, error.param) == ("unsupported_parameter", field)
    assert str(error).startswith(f"{field} is ")


WRONG = [
    ("temperature", -0.1),
    ("temperature", -HUGE),
    ("temperature", "0"),
    ("temperature", True),
    ("temperature", float("inf")),  # 1e999 in JSON
    ("top_p", 0),
    ("top_p", 1.5),
    ("top_p", HUGE),
    ("top_p", False),
    ("top_k", 0),
    ("top_k", 1.5),
    ("seed", -1),
    ("seed", 0.5),
    ("seed", float("-inf")),
    ("seed", "7"),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", True),
    ("max_tokens", 1.5),
    ("max_completion_tokens", 0),
    ("max_looks", -1),
    ("max_looks", False),
    *[(name, 0) for name in PIXELS],
    *[(name, 1.5) for name in PIXELS],
    *[(name, True) for name in PIXELS],
    ("first_token_share", 0),
    ("first_token_share", 1.01),
    ("first_token_share", True),
    ("first_token_share", "half"),
    ("draft_tokens", -1),
    ("draft_tokens", True),
    ("perception", "both"),
    ("perception", 1),
    ("assistant_prefix", ["It"]),
    ("assistant_prefix", "\ud800"),
    ("stop", 1),
    ("stop", [1]),
    ("stop", ""),
    ("stop", ["a", ""]),
    ("stop", ["a"] * 17),
    ("stop", {"a": 1}),
    ("stop", ["\udfff"]),
    ("stream", 1),
    ("stream", "true"),
    ("store", "yes"),
    ("model", 1),
    ("model", "\ud800"),
    ("stream_options", True),
    ("messages", None),
    ("messages", []),
    ("messages", {}),
    ("messages", "What?"),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda value: repr(value)[:30])
def test_a_wrong_value_is_refused_by_name(field: str, value: Any) -> None:
    error = refusal({**body(), field: value})
    assert (error.code, error.param) == ("invalid_value", field)
    assert str(error).startswith(f"{field} is ")


@pytest.mark.parametrize("data", [None, [], "x", 1, True])
def test_a_body_is_an_object(data: Any) -> None:
    error = refusal(data)
    assert (error.code, error.param) == ("invalid_value", None)


MESSAGES: list[tuple[Any, str, str | None]] = [
    (1, "invalid_value", "messages[0]"),
    ({}, "invalid_value", "messages[0].role"),
    ({"role": "robot", "content": "x"}, "invalid_value", "messages[0].role"),
    ({"role": ["user"], "content": "x"}, "invalid_value", "messages[0].role"),
    ({"role": "user"}, "invalid_value", "messages[0].content"),
    ({"role": "user", "content": None}, "invalid_value", "messages[0].content"),
    ({"role": "user", "content": []}, "invalid_value", "messages[0].content"),
    ({"role": "user", "content": 1}, "invalid_value", "messages[0].content"),
    ({"role": "user", "content": {"type": "text"}}, "invalid_value", "messages[0].content"),
    ({"role": "user", "content": "\ud800"}, "invalid_value", "messages[0].content"),
    (user(1), "invalid_value", "messages[0].content[0]"),
    (user({}), "invalid_value", "messages[0].content[0].type"),
    (user({"text": "x"}), "invalid_value", "messages[0].content[0].type"),
    (user({"type": 1}), "invalid_value", "messages[0].content[0].type"),
    (user(PICTURE, {"type": "text"}), "invalid_value", "messages[0].content[1].text"),
    (user({"type": "text", "text": 1}), "invalid_value", "messages[0].content[0].text"),
    (user({"type": "video_url", "video_url": {}}), "unsupported_content", "messages"),
    (user({"type": "input_audio", "input_audio": {}}), "unsupported_content", "messages"),
    (user({"type": "file", "file": {}}), "unsupported_content", "messages"),
    (user({"type": "input_image", "image_url": ADDRESS}), "unsupported_content", "messages"),
    (user({"type": "image_url"}), "invalid_value", "messages[0].content[0].image_url"),
    (
        user({"type": "image_url", "image_url": ""}),
        "invalid_value",
        "messages[0].content[0].image_url",
    ),
    (
        user({"type": "image_url", "image_url": {}}),
        "invalid_value",
        "messages[0].content[0].image_url.url",
    ),
    (
        user({"type": "image_url", "image_url": {"url": 1}}),
        "invalid_value",
        "messages[0].content[0].image_url.url",
    ),
    (
        user({"type": "image_url", "image_url": {"url": ADDRESS, "detail": "best"}}),
        "invalid_value",
        "messages[0].content[0].image_url.detail",
    ),
    (
        user({"type": "image_url", "image_url": {"url": ADDRESS, "crop": 1}}),
        "unsupported_parameter",
        "messages[0].content[0].image_url.crop",
    ),
    (user(PICTURE, weight=1), "unsupported_parameter", "messages[0].weight"),
    (user(PICTURE, images=["AAAA"]), "unsupported_parameter", "messages[0].images"),
    ({"role": "tool", "content": "x", "tool_call_id": "1"}, "unsupported_content", "messages"),
    ({"role": "function", "name": "f", "content": "x"}, "unsupported_content", "messages"),
    (
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        "unsupported_content",
        "messages",
    ),
    (
        {"role": "assistant", "content": None, "audio": {"id": "1"}},
        "unsupported_content",
        "messages",
    ),
    ({"role": "system", "content": [PICTURE]}, "unsupported_content", "messages"),
    ({"role": "assistant", "content": [PICTURE]}, "unsupported_content", "messages"),
    ({"role": "user", "content": "What?"}, "image_required", "messages"),
    ({"role": "system", "content": "Be brief."}, "image_required", "messages"),
    (user(TEXT, PICTURE, PICTURE), "too_many_images", "messages"),
]


@pytest.mark.parametrize(("message", "code", "param"), MESSAGES, ids=lambda value: str(value)[:40])
def test_a_message_that_cannot_be_put_is_refused(message: Any, code: str, param: str) -> None:
    error = refusal(body(message))
    assert (error.code, error.param) == (code, param)


def test_two_pictures_name_what_frigate_calls_one() -> None:
    assert "use_snapshot" in str(refusal(body(user(TEXT, PICTURE, PICTURE))))


@pytest.mark.parametrize(
    "picture",
    [
        PICTURE,
        {"type": "image_url", "image_url": ADDRESS},
        {"type": "image_url", "image_url": {"url": ADDRESS, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": ADDRESS, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": ADDRESS, "detail": "auto"}},
        {"type": "image_url", "image_url": {"url": ADDRESS, "detail": None}},
    ],
)
def test_a_picture_is_named_as_clients_name_it(picture: Any) -> None:
    assert read(body(user(TEXT, picture))).conversation.pictures == (ADDRESS,)


@pytest.mark.parametrize(
    "answer",
    [
        {"role": "assistant", "content": "A dog."},
        {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]},
        {"role": "assistant", "content": "A dog.", "refusal": None, "tool_calls": None},
        {"role": "assistant", "content": "A dog.", "tool_calls": [], "annotations": []},
        {"role": "assistant", "content": "A dog.", "function_call": None, "audio": None},
        {"role": "assistant", "content": "A dog.", "reasoning_content": "Hm.", "name": "vpt"},
        {"role": "assistant", "content": None, "refusal": "A dog."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "A dog."}]},
    ],
)
def test_an_answer_is_given_back_as_clients_keep_it(answer: Any) -> None:
    asked = read(body(user(TEXT, PICTURE), answer, {"role": "user", "content": "Why?"}))
    assert asked.conversation.history == (Exchange("What?", "A dog."),)
    assert asked.conversation.question == "Why?"


def test_a_developer_is_the_system_wherever_it_speaks() -> None:
    asked = read(
        body(
            {"role": "developer", "content": "Be brief."},
            user(TEXT, PICTURE, name="me"),
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        )
    )
    assert asked.conversation.system == "Be brief.\nBe kind."
    assert asked.options["system"] == "Be brief.\nBe kind."


def test_the_last_word_is_the_users() -> None:
    error = refusal(body(user(TEXT, PICTURE), {"role": "assistant", "content": "It"}))
    assert (error.code, error.param) == ("invalid_value", "messages")
    assert "assistant_prefix" in str(error)


def test_so_many_messages_are_read() -> None:
    messages = [user(PICTURE), *[{"role": "user", "content": "x"}] * 3]
    assert read(body(*messages)).conversation.question == "x\nx\nx"
    assert refusal(body(*messages, messages[1])).code == "too_many_messages"


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 100),
        ({"max_tokens": 1}, 1),
        ({"max_tokens": 7.0}, 7),
        ({"max_completion_tokens": 8}, 8),
        ({"max_completion_tokens": 8, "max_tokens": 9}, 8),
        ({"max_completion_tokens": 9, "max_tokens": 8}, 8),
        ({"max_tokens": HUGE}, 100),
    ],
)
def test_the_tokens_of_an_answer_have_two_names_and_a_limit(
    fields: dict[str, Any], most: int
) -> None:
    assert read(body(**fields)).options["max_new_tokens"] == most


def test_options_are_read_as_they_are_named() -> None:
    given = {"temperature": 0.5, "top_p": 1, "top_k": 3, "seed": 7, "perception": "off"}
    asked = read(body(**given, max_looks=2, assistant_prefix="It", first_token_share=0.5, stop="."))
    assert {name: asked.options.get(name) for name in given} == given
    assert (asked.options["max_looks"], asked.options["assistant_prefix"]) == (2, "It")
    assert (asked.options["first_token_share"], asked.options["stop"]) == (0.5, (".",))
    assert read(body(presence_penalty=-1.5)).options["presence_penalty"] == -1.5
    assert read(body(draft_tokens=4)).options["draft_tokens"] == 4
    assert read(body(stop=["a", "b"])).options["stop"] == ("a", "b")
    assert read(body()).options["perception"] == "region"
    pixels = {name: 3136 + index for index, name in enumerate(PIXELS)}
    options = read(body(**pixels)).options
    assert {name: options.get(name) for name in pixels} == pixels


def test_a_strange_name_is_quoted_in_the_error() -> None:
    for name in ("\ud800", "a\nb", "x" * 10_000, ""):
        error = refusal(body(**{name: 1}))
        assert error.code == "unsupported_parameter"
        json.dumps(error.to_dict(), ensure_ascii=False).encode()
        assert len(str(error)) < 400


WORDS = ["user", "assistant", "system", "text", "image_url", ADDRESS, "off", "auto"]
NAMES = [
    *("role", "content", "type", "text", "image_url", "url", "detail", "messages", "stop"),
    *("temperature", "max_tokens", "seed", "stream", "stream_options", "perception", "n"),
]
ANY = json_values(WORDS, NAMES)


def check(data: Any) -> None:
    error = None
    try:
        asked = read(data)
    except RequestError as failure:
        error = failure
    if error is None:
        Options(**asked.options)  # the runtime takes it
    else:
        assert 400 <= error.status < 500
        json.dumps(error.to_dict(), ensure_ascii=False, allow_nan=False).encode()


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_any_json_is_a_request_or_an_error_of_the_client(data: Any) -> None:
    check(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(ANY, st.just(PICTURE), st.just(TEXT)), max_size=4), ANY)
def test_any_content_and_field_is_a_request_or_an_error_of_the_client(
    parts: list[Any], value: Any
) -> None:
    check(body(user(*parts)))
    for name in ("temperature", "stop", "seed", "n", "max_looks", "stream_options"):
        check(body(**{name: value}))
