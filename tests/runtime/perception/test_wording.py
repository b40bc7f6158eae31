"""Fields that are filled in, and questions with their pictures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.chat import Message
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.perception.wording import fill, render_questions, render_tools

TEMPLATE = "{pictures}\nQ: {question} Think first."


def test_fields_are_filled_in_once() -> None:
    """What is filled in may look like a field itself."""
    values = {"question": "{pictures} {x}?", "pictures": "<image>"}
    assert fill(TEMPLATE, values) == "<image>\nQ: {pictures} {x}? Think first."


@given(st.text("{}abq ", max_size=30))
def test_other_braces_stay(text: str) -> None:
    assert fill(text, {"question": "?"}) == text
    assert fill(text, {}) == text


def test_tools_stand_in_lines() -> None:
    tools = [{"name": "zoöm", "a": [1, None]}, '{"name":"b"}']
    assert render_tools(tools) == '{"name": "zoöm", "a": [1, null]}\n{"name":"b"}'
    assert render_tools([]) == ""


def test_the_pictures_stand_with_the_first_question() -> None:
    history = (("Which?", "That."),)
    assert render_questions(history, "What?", 2, TEMPLATE) == [
        Message("user", "<image><image>\nQ: Which? Think first."),
        Message("assistant", "That."),
        Message("user", "\nQ: What? Think first."),
    ]
    assert render_questions((), "What?", 1) == [Message("user", "<image>What?")]


def test_a_question_may_place_them_itself() -> None:
    (message,) = render_questions((), "Is <image> in <image>?", 2, TEMPLATE)
    assert message.text == "\nQ: Is <image> in <image>? Think first."


@pytest.mark.parametrize("question", ["<image>", "<image><image><image>", "<image><video>"])
def test_it_places_each_of_them(question: str) -> None:
    with pytest.raises(PromptError, match=r"the question holds .*, expected 2; place each <image>"):
        render_questions((), question, 2)
    with pytest.raises(PromptError, match=r"the question holds .*, expected 0"):
        render_questions((("Which?", "That."),), question, 2)


@pytest.mark.parametrize("spelled", ["<image>", "<|image_pad|>", "<|video_pad|>", "<video>"])
def test_no_answer_of_the_history_stands_for_a_picture(spelled: str) -> None:
    with pytest.raises(PromptError, match="answer 2 of the history holds"):
        render_questions((("Which?", "That."), ("Where?", spelled)), "What?", 1)
