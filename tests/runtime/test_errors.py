"""An error's text can be shown anywhere, whatever it quotes."""

from __future__ import annotations

import pytest

from vpt_edge.runtime.errors import LONGEST, VptError


def test_the_text_is_the_problem_and_what_mends_it() -> None:
    assert str(VptError("no picture at 1.png")) == "no picture at 1.png"
    assert (
        str(VptError("no picture at 1.png", "give another")) == "no picture at 1.png; give another"
    )


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        ("\x1b[2J", "\\u001b[2J"),
        ("a\nb\r\nc", "a b c"),
        ("\x9b31m", "\\u009b31m"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe", "\\u202egnp.exe"),
        ("caf\udce9", "caf\\udce9"),  # a name that is not UTF-8
        ("\N{SNOWMAN} и 答", "\N{SNOWMAN} и 答"),
    ],
)
def test_what_moves_a_terminal_is_escaped(quoted: str, shown: str) -> None:
    assert str(VptError(f"no picture at {quoted}", quoted)) == f"no picture at {shown}; {shown}"


def test_a_problem_of_megabytes_is_cut_and_what_mends_it_is_not() -> None:
    text = str(VptError("a" + "x" * 5_000_000 + "b", "give another"))
    assert len(text) < LONGEST + 50
    assert text.startswith("ax")
    assert text.endswith("xb; give another")
