"""One line an answer, whatever the model says."""

from __future__ import annotations

import dataclasses
import io
import time

import pytest
from answers import seen

from vpt_edge.live.sinks.terminal import Terminal


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def printed(text: str, **several: int) -> str:
    stream = io.StringIO()
    Terminal(stream, **several).put(seen(25, text, source="rtsp://camera/a"))
    return stream.getvalue()


def test_a_line_tells_what_differs() -> None:
    assert printed("yes") == "00:16:41  yes  (0.4 s)\n"
    assert printed("yes", questions=2) == "00:16:41  Open?  yes  (0.4 s)\n"
    assert printed("yes", sources=2) == "00:16:41  rtsp://camera/a  yes  (0.4 s)\n"


def test_what_was_asked_once_is_told() -> None:
    stream = io.StringIO()
    Terminal(stream).put(dataclasses.replace(seen(25), once=True))
    assert stream.getvalue() == "00:16:41  Open?  yes  (0.4 s)\n"


def test_an_answer_of_several_lines_is_one_line() -> None:
    assert printed("a\n  b\r\nc\x1b[2J") == "00:16:41  a b c\\u001b[2J  (0.4 s)\n"
