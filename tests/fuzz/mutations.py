"""What damages a good input: a document of JSON at one to three places, bytes, or a text."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

DEEP = "\x00deep\x00"  # in a document: what becomes brackets, deeper than a reader can go
DEPTH = 20_000
ODD: tuple[Any, ...] = (
    *(None, True, False, "", "false", "128", "../../etc/passwd", "\x1b[31m", "\ud800", "x" * 3000),
    *(0, -1, 1, 2, 7, 255, 2**31, 2**63, 10**30, 0.5, -0.0, 1e-45, 1e308),
    *(float("nan"), float("inf"), [], {}, [[]], [None], {"": 0}, [0] * 1000, DEEP),
)

Draw = Callable[[st.SearchStrategy[Any]], Any]
Place = tuple[Any, Any]  # a list or an object, and where in it


@st.composite
def documents(draw: Draw, seeds: Sequence[Any]) -> bytes:
    """One of ``seeds`` as JSON: keys and items taken away, replaced, doubled or moved."""
    document = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        if document:
            _change(draw, document)
    text = json.dumps(document)
    deep = "[" * DEPTH + "]" * DEPTH
    return text.replace(json.dumps(DEEP), deep).encode()


def _place(draw: Draw, document: Any) -> Place:
    """Some place in ``document``; each level is as likely, however many places it has."""
    container = document
    while True:
        keys: Sequence[Any] = range(len(container))
        if isinstance(container, dict):
            keys = list(container)
        key = draw(st.sampled_from(keys))
        inner = container[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 3)) == 0:
            return container, key
        container = inner


def _change(draw: Draw, document: Any) -> None:
    container, key = _place(draw, document)
    change = draw(st.sampled_from(("take away", "odd", "odd", "other", "near", "add")))
    if change == "take away":
        del container[key]
    elif change == "odd":
        container[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    elif change == "other":
        other, place = _place(draw, document)
        container[key] = copy.deepcopy(other[place])
    elif change == "near":
        container[key] = _near(draw, container[key])
    elif isinstance(container, dict):
        container[draw(st.sampled_from(("", "x", "weight", "\x1b[2J")))] = container[key]
    else:
        container.append(container[key])


def _near(draw: Draw, value: Any) -> Any:
    """A value of the same type, a little beside."""
    if type(value) is int:
        return value + draw(st.sampled_from((-1, 1, value, -2 * value)))
    if type(value) is float:
        return value * draw(st.sampled_from((-1.0, 0.999, 1e10, 1e-10)))
    if isinstance(value, str):
        return value + draw(st.text(max_size=5))
    return value


@st.composite
def files(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` with bytes replaced, cut out, doubled, or its end missing."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        stop = start + draw(st.integers(0, 16))
        change = draw(st.sampled_from(("replace", "double", "cut")))
        if change == "replace":
            data[start:stop] = draw(st.binary(max_size=16))
        elif change == "double":
            data[start:start] = data[start:stop]
        elif draw(st.booleans()):
            del data[start:stop]
        else:
            del data[start:]
    return bytes(data)


def texts(words: Sequence[str]) -> st.SearchStrategy[bytes]:
    """``words`` in any order, with other text in between."""
    word = st.one_of(st.sampled_from(words), st.text(max_size=4))
    lines = st.lists(word, max_size=40).map("".join)
    return lines.map(lambda text: text.encode("utf-8", "surrogatepass"))
