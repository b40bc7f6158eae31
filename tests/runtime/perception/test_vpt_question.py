"""The first user message: the picture, the question and the authors' sentence."""

from __future__ import annotations

from typing import Any

import pytest

from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.perception.vpt import KINDS, question_text

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
