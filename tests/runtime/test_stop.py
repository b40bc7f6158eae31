"""A text is cut in front of the first stop text, however it comes in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vpt_edge.runtime.stop import StopText

if TYPE_CHECKING:
    from collections.abc import Sequence


def shown(stop: StopText, pieces: Sequence[str]) -> list[str]:
    """What passes with each piece, and what at the end."""
    return [*map(stop.take, pieces), stop.finish()]


def test_without_stop_texts_each_piece_passes() -> None:
    stop = StopText(())
    assert shown(stop, ["a", "", "b"]) == ["a", "", "b", ""]
    assert (stop.sequence, stop.shown) == (None, "")  # nothing is kept


def test_what_is_no_beginning_passes_at_once() -> None:
    stop = StopText(["END"])
    assert shown(stop, ["A", " dog", "."]) == ["A", " dog", ".", ""]
    assert (stop.sequence, stop.shown) == (None, "A dog.")


def test_a_beginning_is_held_back_until_it_is_decided() -> None:
    stop = StopText(["END"])
    assert shown(stop, ["A E", "N", "D of"]) == ["A ", "", "", ""]
    assert (stop.sequence, stop.shown) == ("END", "A ")
    stop = StopText(["END"])
    assert shown(stop, ["A E", "N", "d of"]) == ["A ", "", "ENd of", ""]
    assert (stop.sequence, stop.shown) == (None, "A ENd of")


def test_what_is_held_back_at_the_end_is_given() -> None:
    stop = StopText(["END", "AND THEN"])
    assert shown(stop, ["So AND", " TH"]) == ["So ", "", "AND TH"]
    assert (stop.sequence, stop.shown) == (None, "So AND TH")
    assert stop.finish() == ""


def test_only_what_may_still_begin_one_is_held_back() -> None:
    stop = StopText(["aab"])
    assert shown(stop, ["a", "a", "a", "b"]) == ["", "", "a", "", ""]
    assert (stop.sequence, stop.shown) == ("aab", "a")
    stop = StopText(["abac", "ba"])
    assert shown(stop, ["ab", "b"]) == ["", "ab", "b"]


def test_behind_a_stop_text_nothing_passes() -> None:
    stop = StopText(["\n"])
    assert shown(stop, ["a\nb", "c", "\n"]) == ["a", "", "", ""]
    assert (stop.sequence, stop.shown) == ("\n", "a")


@pytest.mark.parametrize(
    ("stops", "text", "sequence", "passes"),
    [
        (["b", "a"], "xab", "a", "x"),
        (["abcd", "bc"], "xabcd", "bc", "xa"),  # complete first, though it begins later
        (["bc", "abc"], "xabc", "abc", "x"),  # complete together: the longest
        (["abc", "ab"], "xabc", "ab", "x"),
        (["abc"], "xab", None, "xab"),
        (["a", "a"], "xa", "a", "x"),
        (["\U0001f415"], "a \U0001f415.", "\U0001f415", "a "),
    ],
)
def test_the_first_is_the_one_that_is_complete_first(
    stops: list[str], text: str, sequence: str | None, passes: str
) -> None:
    for pieces in ([text], list(text)):
        stop = StopText(stops)
        assert "".join(shown(stop, pieces)) == passes
        assert (stop.sequence, stop.shown) == (sequence, passes)


letters = st.text("ab.", max_size=4)


def cut(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """``text`` in front of the first of ``stops``, letter by letter."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            first = max(complete, key=len)
            return text[: end - len(first)], first
    return text, None


@given(
    pieces=st.lists(letters, max_size=12),
    stops=st.lists(letters.filter(bool), max_size=4),
)
@example(pieces=["ab", "ab"], stops=["bab", "aba"])
@example(pieces=["a", "a", "b"], stops=["aab"])
def test_any_pieces_join_to_the_text_as_far_as_the_first_stop_text(
    pieces: list[str], stops: list[str]
) -> None:
    text = "".join(pieces)
    stop = StopText(stops)
    seen = ""
    for index, piece in enumerate(pieces):
        seen += stop.take(piece)
        so_far = "".join(pieces[: index + 1])
        passes, sequence = cut(so_far, stops)
        assert passes.startswith(seen)
        assert stop.sequence == sequence
        held = passes[len(seen) :]
        assert not held or any(each.startswith(held) for each in stops)  # no more than it must
    seen += stop.finish()
    assert (seen, stop.sequence) == cut(text, stops)
    if stops:
        assert stop.shown == seen
