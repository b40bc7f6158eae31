from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpt_edge.runtime.options import Exchange
from vpt_edge.server.conversation import ChatMessage, read_conversation
from vpt_edge.server.errors import RequestError

FIX = "send a picture"


def said(role: str, text: str, *pictures: str) -> ChatMessage:
    return ChatMessage(role, text, pictures)  # type: ignore[arg-type]


def test_the_newest_picture_counts() -> None:
    messages = [
        said("user", "Old?", "old"),
        said("assistant", "Old."),
        said("user", "New?", "new"),
        said("assistant", "New."),
        said("user", "Why?"),
    ]
    read = read_conversation(messages, FIX)
    assert (read.pictures, read.question, read.passed_over) == (("new",), "Why?", 2)
    assert read.history == (Exchange("New?", "New."),)


def test_a_picture_without_an_answer_is_passed_over_when_another_comes() -> None:
    messages = [said("user", "Old?", "old"), said("user", "New?", "new")]
    read = read_conversation(messages, FIX)
    assert (read.pictures, read.question, read.passed_over) == (("new",), "New?", 1)


def test_words_before_and_behind_a_picture_belong_to_it() -> None:
    messages = [
        said("assistant", "Hello."),
        said("user", "Look:"),
        said("user", "", "new"),
        said("user", "What?"),
    ]
    read = read_conversation(messages, FIX)
    assert (read.question, read.passed_over) == ("Look:\nWhat?", 1)


def test_what_the_system_says_counts_for_all_and_is_not_passed_over() -> None:
    messages = [
        said("system", "Be brief."),
        said("user", "Old?", "old"),
        said("system", ""),
        said("assistant", "Old."),
        said("user", "New?", "new"),
        said("system", "Be kind."),
    ]
    read = read_conversation(messages, FIX)
    assert (read.system, read.passed_over) == ("Be brief.\nBe kind.", 2)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], "image_required"),
        ([said("user", "What?")], "image_required"),
        ([said("user", "What?", "a", "b")], "too_many_images"),
        ([said("user", "", "a"), said("user", "", "b", "c")], "too_many_images"),
        ([said("user", "", "a"), said("assistant", "It")], "invalid_value"),
    ],
)
def test_other_conversations_are_refused(messages: list[ChatMessage], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_conversation(messages, FIX)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert (FIX in str(caught.value)) == (code == "image_required")


def messages() -> st.SearchStrategy[list[ChatMessage]]:
    texts = st.text("abc \n", max_size=4)
    others = st.builds(said, st.sampled_from(["system", "assistant", "user"]), texts)
    shown = st.builds(said, st.just("user"), texts, st.sampled_from(["p", "q"]))
    return st.lists(st.one_of(others, shown), max_size=12)


@settings(max_examples=300, deadline=None)
@given(messages())
def test_nothing_is_lost_but_what_is_passed_over(messages: list[ChatMessage]) -> None:
    spoken = [message for message in messages if message.role != "system"]
    pictures = [message.pictures[0] for message in spoken if message.pictures]
    if not pictures or spoken[-1].role == "assistant":
        with pytest.raises(RequestError):
            read_conversation(messages, FIX)
        return
    read = read_conversation(messages, FIX)
    assert read.pictures == (pictures[-1],)
    rest = spoken[read.passed_over :]
    assert sum(len(message.pictures) for message in rest) == 1
    texts = [text for exchange in read.history for text in exchange]
    shown = "".join([*texts, read.question]).replace("\n", "")
    assert shown == "".join(message.text for message in rest).replace("\n", "")
    users = [question for question, _ in read.history]
    said_by_user = "".join(message.text for message in rest if message.role == "user")
    assert "".join([*users, read.question]).replace("\n", "") == said_by_user.replace("\n", "")
