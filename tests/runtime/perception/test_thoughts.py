"""Thoughts and what is said aloud."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.perception.thoughts import Thoughts, prefix_of, split, tags_of

SPOKEN = Thoughts("<think>", "</think>", prompted=False)
PROMPTED = Thoughts("<think>", "</think>", prompted=True)
words = st.text("a </\n", max_size=5)
pieces = st.sampled_from(["<think>", "</think>", "<th", "ink>", "a", "\n", " "])


@pytest.mark.parametrize(
    ("text", "thoughts", "rest"),
    [
        ("A dog.", None, "A dog."),
        ("<think>Hm.</think>A dog.", "Hm.", "A dog."),
        ("So <think> Hm. </think>a <think>no</think>dog.", "Hm.\nno", "So a dog."),
        ("<think>Hm.", "Hm.", ""),
        ("A </think> dog.", None, "A </think> dog."),
        ("<think><think>Hm.</think>A dog.", "<think>Hm.", "A dog."),
    ],
)
def test_thoughts_are_apart(text: str, thoughts: str | None, rest: str) -> None:
    assert split(text, SPOKEN) == (thoughts, rest)


def test_the_template_may_have_opened_them() -> None:
    for text in ("<think>\nHm.\n</think>\nA dog.", "Hm.\n</think>\nA dog."):
        assert split(text, PROMPTED) == ("Hm.", "\nA dog.")
    assert split("Hm", PROMPTED) == ("Hm", "")
    assert [prefix_of(marks) for marks in (PROMPTED, SPOKEN, None)] == ["<think>\n", "", ""]


def test_another_model_has_none() -> None:
    assert split("<think>Hm.", None) == (None, "<think>Hm.")
    assert (tags_of(None), tags_of(SPOKEN)) == (None, ("<think>", "</think>"))


@given(st.lists(st.tuples(words, words), max_size=5), words, st.booleans())
def test_each_word_is_thought_or_said(
    pairs: list[tuple[str, str]], last: str, prompted: bool
) -> None:
    """Thoughts between words, and where the template opens them, in front of the first."""
    marks = Thoughts("<think>", "</think>", prompted)
    thoughts = [thought for _, thought in pairs]
    said = [spoken for spoken, _ in pairs]
    text = "".join(f"{spoken}<think>{thought}</think>" for spoken, thought in pairs) + last
    if prompted:
        text = f"Hm.</think>{text}"
        thoughts.insert(0, "Hm.")
    expected = None
    if thoughts:
        expected = "\n".join(thought.strip() for thought in thoughts)
    assert split(text, marks) == (expected, "".join([*said, last]))


@given(st.lists(pieces, max_size=12).map("".join))
def test_any_text_can_be_split(text: str) -> None:
    for marks in (SPOKEN, PROMPTED):
        thought, rest = split(text, marks)
        assert len(rest) + len(thought or "") <= len(text)
