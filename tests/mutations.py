"""Files of JSON with another value somewhere."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
NUMBERS = st.sampled_from([0, -1, 1, 2, 3, 1e9, 10**9, 2**31, 2**63, 10**400, 1e308, 0.5, "1", ""])


def places(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where the values of ``data`` stand."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    found = []
    for key, value in items:
        found += [(*path, key), *places(value, (*path, key))]
    return found


def mutate(data: Any, source: st.DataObject) -> None:
    """Put another value at one place of ``data``, or take it away."""
    *path, last = source.draw(st.sampled_from(places(data)))
    for step in path:
        data = data[step]
    if source.draw(st.integers(0, 9)):
        data[last] = source.draw(VALUES | NUMBERS)
    else:
        del data[last]
