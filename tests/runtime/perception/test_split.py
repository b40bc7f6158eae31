"""What of a turn is thought, hidden and shown, however its text is cut into pieces."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.perception.split import Markup, TextSplitter, split, without_thoughts

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKUP = Markup(
    ("<think>", "</think>"), (("<call>", "</call>"), ("```json", "```")), ("<answer>", "</answer>")
)
WORDS = ["<think>", "</think>", "<call>", "</call>", "<answer>", "</answer>", "```json", "```"]


def split_pieces(pieces: Sequence[str], markup: Markup) -> tuple[str | None, str]:
    splitter = TextSplitter(markup)
    parts = [part for piece in pieces for part in splitter.take(piece)]
    parts += splitter.finish()
    assert all(part.text for part in parts)
    thoughts = "".join(part.text for part in parts if part.is_thought)
    return thoughts or None, "".join(part.text for part in parts if not part.is_thought)


@pytest.mark.parametrize(
    ("text", "thoughts", "shown"),
    [
        ("A dog.", None, "A dog."),
        ("<think>\nHm.\n</think>\n\nA dog. ", "Hm.", "A dog. "),
        ("A <call>{}</call>dog", None, "A dog"),
        ("<think> a <call>{}</call> b </think>c", "a <call>{}</call> b", "c"),
        ("<think>a</think>b <think>c</think> d", "a\nc", "b d"),
        ("<think></think>b", None, "b"),
        ("<think>never closed ", "never closed", ""),
        ("<call>never closed", None, ""),
        ("It is <answer>red</answer>.", None, "It is red."),
        ("a </think> b", None, "a </think> b"),  # which closes nothing
        ("<think>a <think> b</think>c", "a <think> b", "c"),
        ("a ```json [1] ``` b", None, "a  b"),
        ("a < b <thin", None, "a < b <thin"),
        ("\n a", None, "\n a"),  # white space is left alone where nothing was thought
    ],
)
def test_a_text_is_split(text: str, thoughts: str | None, shown: str) -> None:
    assert split(text, MARKUP) == (thoughts, shown)


def test_nothing_is_held_back_where_nothing_is_marked() -> None:
    splitter = TextSplitter(Markup())
    assert [part.text for part in splitter.take("<think> ")] == ["<think> "]
    assert splitter.finish() == []


def test_a_letter_waits_only_for_what_it_may_begin() -> None:
    splitter = TextSplitter(MARKUP)
    shown = [[part.text for part in splitter.take(letter)] for letter in "a<tb<x"]
    assert shown == [["a"], [], [], ["<tb"], [], ["<x"]]


marked = st.lists(st.sampled_from([*WORDS, "a", " ", "\n", "<", "th"]), max_size=12).map("".join)


@given(marked, st.lists(st.integers(0, 60), max_size=8))
def test_the_cuts_change_nothing(text: str, cuts: list[int]) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert split_pieces(pieces, MARKUP) == split(text, MARKUP)
    assert split_pieces(list(text), MARKUP) == split(text, MARKUP)


words = st.lists(st.sampled_from([*WORDS, "a", " ", "\n", "b c"]), max_size=12).map("".join)


@given(words)
def test_no_tag_leaks(text: str) -> None:
    splitter = TextSplitter(MARKUP)
    parts = [*splitter.take(text), *splitter.finish()]
    shown = [part.text for part in parts if not part.is_thought]
    for word in ("<think>", "<call>", "<answer>", "</answer>", "```json"):
        assert not any(word in part for part in shown)  # what is around a tag may join to another
    thoughts, _ = split(text, MARKUP)
    assert thoughts is None or (thoughts == thoughts.strip() and "</think>" not in thoughts)


@given(st.lists(st.sampled_from([*WORDS, "a", "b"])).map(" ".join))
def test_without_thoughts_the_same_is_shown(text: str) -> None:
    said = without_thoughts(text, MARKUP)
    _, shown = split(text, MARKUP)
    thoughts, again = split(said, MARKUP)
    assert thoughts is None
    assert again.split() == shown.split()


def test_without_thoughts_calls_stay() -> None:
    text = "<think>a <call>1</call></think>b<call><think>2</call>c<think>d"
    assert without_thoughts(text, MARKUP) == "b<call><think>2</call>c"
