"""JSON of all kinds, for what reads a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

HUGE = 10**400


def nest(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def json_values(words: Sequence[str], names: Sequence[str]) -> st.SearchStrategy[Any]:
    """What ``json.loads`` may give, with ``words`` as texts and ``names`` as keys among others;
    infinity, too, which is how it reads 1e999.
    """
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.just(HUGE),
        st.sampled_from([*words, "\ud800"]),
        st.text(max_size=5),
    )

    def extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        keys = st.one_of(st.sampled_from(names), st.text(max_size=5))
        return st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5))

    return st.recursive(leaf, extend, max_leaves=30)
