"""The tokenizer has a token for every word of a question and for every character of a text."""

from __future__ import annotations

import pytest
from signs.tokens import build_tokenizer, corpus
from signs_tiny import GEOMETRY
from talk import Talk

from vpt_edge.live.scenes import COLOURS
from vpt_edge.live.signs.sign import KINDS
from vpt_edge.live.signs.words import CHARACTERS


@pytest.fixture(name="talk", scope="module")
def fixture_talk() -> Talk:
    return Talk(build_tokenizer())


def test_names_of_signs_are_one_token_each(talk: Talk) -> None:
    names = [*COLOURS, *KINDS]
    assert all(len(talk.ids(f" {name}")) == 1 for name in names)
    assert all(len(talk.ids(name)) == 1 for name in COLOURS)
    assert talk.tokenizer.get_vocab_size() <= GEOMETRY.text.vocab_size


def test_a_text_is_one_token_a_character(talk: Talk) -> None:
    assert len(set(talk.ids(CHARACTERS))) == len(CHARACTERS)
    for text in ("CAFE", "PARKING", "7X3K", "1250"):
        assert len(talk.ids(text)) == len(text)
        assert talk.tokenizer.decode(talk.ids(text)) == text


def test_a_question_is_one_token_a_word(talk: Talk) -> None:
    """And one for the mark behind it."""
    questions = [text for text in corpus() if text.endswith("?")]
    assert len(questions) > 100
    for question in questions:
        assert len(talk.ids(question)) == question.count(" ") + 2
