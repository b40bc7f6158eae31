"""The first user message: the picture, the question and the authors' sentence."""

from __future__ import annotations

from typing import Any

import pytest

from vpt_edge.runtime.chat import Message
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.perception.vpt import KINDS
from vpt_edge.runtime.perception.vpt_question import (
    literal_pads,
    number_turns,
    question_text,
    render_history,
)

REGION = "Identify the region that can help you answer the question, and then answer the question"
REENCODE = "Require additional perception features, and then answer the question"


@pytest.mark.parametrize("perception", ["free", "off"])
def test_nothing_is_appended_unasked(perception: Any) -> None:
    assert question_text("What is it?", perception, "clip") == "<image>\nWhat is it?"


@pytest.mark.parametrize(("perception", "sentence"), [("region", REGION), ("reencode", REENCODE)])
def test_the_authors_sentence_is_appended_in_its_published_form(
    perception: Any, sentence: str
) -> None:
    assert question_text("What is it?", perception, "clip") == f"<image>\nWhat is it? \n{sentence}."
    assert question_text("Is <image> it?", perception, "clip") == f"Is <image> it? \n{sentence}."


def test_a_placed_image_stays_where_it_is() -> None:
    assert question_text("What is <image> of?", "free", "clip") == "What is <image> of?"
    assert question_text("", "free", "clip") == "<image>\n"


@pytest.mark.parametrize(
    "question",
    [
        "<image><image>",
        "a <image> b <image>",
        "<clip_image>",
        "<detection_image>",
        "<seg_image>",
        "<video>",
        "<image> and <video>",
        "<|image_pad|>",
        "<|video_pad|>",
        "q <|clip_image_pad|>",
        "q <|clip_action|>",
    ],
)
def test_tokens_that_stand_for_pictures_are_refused(question: str) -> None:
    with pytest.raises(PromptError, match="remove it") as error:
        question_text(question, "free", "clip")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_pads_and_actions_are_refused_where_they_are_tokens(kind: str) -> None:
    for token in ("_image_pad", "_action"):
        for other in KINDS:
            question = f"q <|{other}{token}|>"
            if other == kind:
                with pytest.raises(PromptError, match="remove it"):
                    question_text(question, "free", kind)
            else:
                assert question_text(question, "free", kind) == f"<image>\n{question}"


@pytest.mark.parametrize(
    "question",
    ["<|im_end|>", "<Image>", "< image >", "<|region_token_start|>", "{{idx}}", "<|x_0|>"],
)
def test_other_tokens_are_let_through(question: str) -> None:
    assert question_text(question, "off", "clip") == f"<image>\n{question}"


@pytest.mark.parametrize("perception", ["Region", "", None, "reencoding", True])
def test_an_unknown_perception_is_refused(perception: Any) -> None:
    with pytest.raises(PromptError, match="expected one of: region, reencode, free, off"):
        question_text("q", perception, "clip")


@pytest.mark.parametrize("question", [None, b"q", 3, ["q"]])
def test_a_question_is_text(question: Any) -> None:
    with pytest.raises(PromptError, match="expected text"):
        question_text(question, "free", "clip")


@pytest.mark.parametrize("question", ["\ud800", "a\udfffb"])
def test_lone_surrogates_are_refused(question: str) -> None:
    with pytest.raises(PromptError, match="not valid text"):
        question_text(question, "free", "clip")


def test_literal_pads_are_those_of_the_checkpoints_kind() -> None:
    assert literal_pads("seg") == ("<|image_pad|>", "<|video_pad|>", "<|seg_image_pad|>")


def test_the_picture_stands_with_the_first_question_of_a_history() -> None:
    assert render_history([], "clip") == []
    assert render_history([("Which?", "That."), ("Why?", ""), ("", "So.")], "clip") == [
        Message("user", "<image>\nWhich?"),
        Message("assistant", "That."),
        Message("user", "Why?"),
        Message("assistant", ""),
        Message("user", ""),
        Message("assistant", "So."),
    ]
    placed = render_history([("What is <image> of?", "A dog.")], "clip")
    assert placed[0] == Message("user", "What is <image> of?")


STANDING = ["<clip_image>", "<video>", "<|image_pad|>", "<|clip_image_pad|>", "<|clip_action|>"]


@pytest.mark.parametrize("text", [*STANDING, "<image><image>"])
def test_a_first_question_is_refused_as_one_without_a_history(text: str) -> None:
    with pytest.raises(PromptError, match=r"the question 1 of the history holds .*; remove it"):
        render_history([(text, "")], "clip")


@pytest.mark.parametrize("text", [*STANDING, "a <image>"])
def test_a_later_question_stands_for_no_picture(text: str) -> None:
    with pytest.raises(PromptError, match=r"the question 2 of the history holds .*; remove it"):
        render_history([("a", "b"), (text, "")], "clip")


def test_a_later_question_hears_where_the_picture_is() -> None:
    with pytest.raises(PromptError, match="holds <image>: the picture stands in the history's fir"):
        render_history([("a", "b"), ("What is <image>?", "")], "clip")


@pytest.mark.parametrize("text", [*STANDING, "a <image>"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_answer_stands_for_no_picture(number: int, text: str) -> None:
    history = [("a", "b"), ("c", "d")]
    history[number - 1] = ("a", text)
    with pytest.raises(PromptError, match=f"the answer {number} of the history holds .*; remove"):
        render_history(history, "clip")


@pytest.mark.parametrize(
    "text",
    [
        "<|region_token_start|><|x_1|><|y_1|><|region_token_end|>",
        "<|clip_action_start|>",
        "<|detection_action|>",
        "<|im_end|>",
        "{{idx}}",
    ],
)
def test_other_tokens_of_a_history_are_let_through(text: str) -> None:
    messages = render_history([(text, text), (text, text)], "clip")
    assert [message.text for message in messages] == [f"<image>\n{text}", text, text, text]


@pytest.mark.parametrize("history", [[("a\ud800", "b")], [("a", "b\ud800")]])
def test_lone_surrogates_of_a_history_are_refused(history: list[tuple[str, str]]) -> None:
    with pytest.raises(PromptError, match=r"the (question|answer) 1 of the history is not valid"):
        render_history(history, "clip")


def test_a_user_may_write_the_turns_number() -> None:
    """Once a message, counted over the user's messages, whatever stands in front of them."""
    messages = [
        Message("system", "{{idx}}"),
        Message("user", "a{{idx}}"),
        Message("assistant", "{{idx}}"),
        Message("user", "{{idx}}{{idx}}"),
    ]
    texts = [message.text for message in number_turns(messages)]
    assert texts == ["{{idx}}", "a0", "{{idx}}", "1{{idx}}"]
