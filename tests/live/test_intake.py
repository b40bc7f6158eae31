"""Bytes from outside become requests, or a line in the log."""

from __future__ import annotations

import pytest

from vpt_edge.live.intake import BYTES, Intake
from vpt_edge.live.requests import Request


def test_a_text_is_a_question_and_nothing_stands_for_the_given_ones() -> None:
    asked = list[str | None]()
    intake = Intake()
    intake.open(asked.append)
    for data in (b"", b"  \r", " 开着吗?\r".encode()):
        intake.take(data)
    assert asked == [None, None, "开着吗?"]


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\xff\xfe", "is not UTF-8"), (b"a" * (BYTES + 1), "has more than 16384 bytes")],
)
def test_what_is_not_a_text_is_logged(
    data: bytes, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = list[str | None]()
    intake = Intake()
    intake.open(asked.append)
    intake.take(data)
    assert asked == []
    assert text in capsys.readouterr().err


def test_a_question_that_is_refused_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    intake = Intake()
    intake.open(Request)
    intake.take(b"a" * 5000)
    assert "the question has 5000 characters" in capsys.readouterr().err


def test_before_there_is_a_watch_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Intake().take(b"Open?")
    assert "before the model was loaded" in capsys.readouterr().err
