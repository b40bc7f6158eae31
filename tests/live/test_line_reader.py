"""Lines come as they are written, and the end behind the last."""

from __future__ import annotations

import os
import queue
from typing import Any

import pytest

from vpt_edge.live.line_reader import LineReader

LIMIT = 10
END = None


def read(*writes: bytes) -> list[Any]:
    """What a reader gives of a pipe."""
    given: queue.Queue[Any] = queue.Queue()
    source, sink = os.pipe()
    LineReader(source, LIMIT, given.put, lambda: given.put(END))
    for data in writes:
        os.write(sink, data)
    os.close(sink)
    lines = []
    while (line := given.get(timeout=20)) is not END:
        lines.append(line)
    os.close(source)
    return lines


@pytest.mark.parametrize(
    ("writes", "lines"),
    [
        ([], []),
        ([b"\n"], [b""]),
        ([b"a\nb\n\n"], [b"a", b"b", b""]),
        ([b"half", b" and half\r\nlast"], [b"half and ha", b"last"]),
        ([b"x" * 5000, b"x" * 5000, b"\nnext\n"], [b"x" * 11, b"next"]),
    ],
)
def test_each_line_is_given_up_to_the_limit(writes: list[bytes], lines: list[bytes]) -> None:
    assert read(*writes) == lines


def test_a_line_is_given_before_the_next_is_there() -> None:
    given: queue.Queue[Any] = queue.Queue()
    source, sink = os.pipe()
    LineReader(source, LIMIT, given.put, lambda: given.put(END))
    os.write(sink, b"now\n")
    assert given.get(timeout=20) == b"now"
    os.close(sink)
    assert given.get(timeout=20) is END
    os.close(source)


def test_a_closed_descriptor_is_an_end() -> None:
    given: queue.Queue[Any] = queue.Queue()
    LineReader(-1, LIMIT, given.put, lambda: given.put(END))
    assert given.get(timeout=20) is END
