from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import HUGE, json_values, nest

from vpt_edge.runtime.options import Exchange, Options
from vpt_edge.server.errors import RequestError
from vpt_edge.server.harmless_fields import OLLAMA
from vpt_edge.server.ollama_request import (
    DETAILS,
    NOT_DONE,
    OPTIONS_READ,
    read_chat,
    read_generate,
)
from vpt_edge.server.settings import Settings

SETTINGS = Settings(model="tiny", perception="free", max_messages=4, max_tokens=100)
USER = {"role": "user", "content": "What?", "images": ["AAAA"]}


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages) or [USER], **fields}


def test_pictures_in_base64_have_an_address() -> None:
    for asked in (
        read_chat(chat(), SETTINGS),
        read_generate({"prompt": "What?", "images": ["AAAA"]}, SETTINGS),
    ):
        assert asked.conversation is not None
        assert asked.conversation.pictures == ("data:;base64,AAAA",)
        assert asked.conversation.question == "What?"
        assert asked.stream


def test_a_prompt_has_a_system_beside() -> None:
    asked = read_generate({"prompt": "", "images": ["AAAA"], "system": "Be brief."}, SETTINGS)
    assert asked.conversation is not None
    assert (asked.conversation.system, asked.conversation.question) == ("Be brief.", "")


def test_earlier_turns_are_the_history() -> None:
    answer = {"role": "assistant", "content": "A dog."}
    asked = read_chat(chat(USER, answer, {"role": "user", "content": "Why?"}), SETTINGS)
    assert asked.conversation is not None
    assert asked.conversation.history == (Exchange("What?", "A dog."),)


def test_options_have_the_runtimes_names() -> None:
    options: dict[str, Any] = {"temperature": 0.5, "top_k": 3, "top_p": 0.5, "seed": 7}
    options |= {
        "num_predict": 8,
        "stop": ["."],
        "perception": "off",
        "max_looks": 0,
        "min_pixels": 3136,
        "max_pixels": 50_000,
        "first_max_pixels": 784,
        "look_max_pixels": 40_000,
        "assistant_prefix": "It",
        "first_token_share": 0.75,
        "draft_tokens": 4,
    }
    asked = read_chat(chat(options=options), SETTINGS)
    options["max_new_tokens"] = options.pop("num_predict")
    options["stop"] = (".",)
    assert {name: asked.options.get(name) for name in options} == options


@pytest.mark.parametrize(
    ("number", "most"), [(None, 100), (-1, 100), (-2, 100), (5, 5), (HUGE, 100)]
)
def test_num_predict_has_the_servers_limit(number: int | None, most: int) -> None:
    asked = read_chat(chat(options={"num_predict": number}), SETTINGS)
    assert asked.options["max_new_tokens"] == most


def test_a_marker_is_taken_out_for_each_picture() -> None:
    for text, question in (
        ("[img] What?", "What?"),
        ("What?\n[img]", "What?"),
        ("[img] or [img]?", "or [img]?"),
    ):
        asked = read_chat(chat({**USER, "content": text}), SETTINGS)
        assert asked.conversation is not None
        assert asked.conversation.question == question
    asked = read_chat(chat(USER, {"role": "user", "content": "[img]"}), SETTINGS)
    assert asked.conversation is not None
    assert asked.conversation.question == "What?\n[img]"


def test_so_many_messages_are_read() -> None:
    with pytest.raises(RequestError, match="expected up to 4"):
        read_chat(chat(*[USER] * 5), SETTINGS)


def test_each_option_is_of_one_kind() -> None:
    kinds = [OPTIONS_READ, OLLAMA["`options`"], set(NOT_DONE), DETAILS]
    assert sum(map(len, kinds)) == len(set().union(*kinds))


@pytest.mark.parametrize("name", sorted(OLLAMA["`options`"] | DETAILS | set(NOT_DONE)))
def test_what_is_not_done_may_be_deep_or_huge(name: str) -> None:
    for value in (HUGE, nest(900), "\ud800"):
        check(read_chat, chat(options={name: value}))


WORDS = ["user", "assistant", "system", "tool", "AAAA", "[img]", "off", "json"]
NAMES = [
    *("role", "content", "images", "messages", "options", "stream", "format", "think", "tools"),
    *("prompt", "system", "temperature", "num_predict", "seed", "stop", "top_k", "top_p"),
    *("num_ctx", "repeat_penalty", "model", "keep_alive"),
]
ANY = json_values(WORDS, NAMES)


def check(read: Any, data: Any) -> None:
    error = None
    try:
        asked = read(data, SETTINGS)
    except RequestError as failure:
        error = failure
    if error is None:
        Options(**asked.options)  # the runtime takes it
    else:
        assert 400 <= error.status < 500
        json.dumps(error.to_ollama_dict(), ensure_ascii=False).encode()


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_any_json_is_a_request_or_an_error_of_the_client(data: Any) -> None:
    check(read_chat, data)
    check(read_generate, data)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(ANY, st.just(USER)), max_size=4), ANY, ANY)
def test_any_message_and_option_is_a_request_or_an_error_of_the_client(
    messages: list[Any], options: Any, value: Any
) -> None:
    check(read_chat, chat(*messages))
    check(read_chat, chat(options=options))
    for name in OPTIONS_READ:
        check(read_chat, chat(options={name: value}))
    check(read_generate, {"prompt": value, "images": ["AAAA"]})
    check(read_generate, {"prompt": "What?", "images": [value]})
