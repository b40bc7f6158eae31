from __future__ import annotations

from typing import Any

import pytest

from vpt_edge.server.errors import RequestError
from vpt_edge.server.fields import Fields, is_one_of

FIELDS = Fields({"a": {"b": [{"c": 1}]}, "none": None})


def test_a_field_is_named_by_where_it_stands() -> None:
    (inner,) = FIELDS.object("a").objects("b")
    assert inner.path("c") == "a.b[0].c"
    assert inner.path(None) == "a.b[0]"
    assert FIELDS.path("a b") == "'a b'"
    with pytest.raises(RequestError, match=r"a\.b\[0\]\.c is 1, expected a text") as caught:
        inner.text("c")
    assert (caught.value.status, caught.value.param) == (400, "a.b[0].c")


def test_null_is_a_field_that_is_not_there() -> None:
    for name in ("none", "other"):
        assert FIELDS.text(name) is None
        assert FIELDS.number(name) is None
        assert FIELDS.count(name) is None
        assert FIELDS.items(name) == []
        assert FIELDS.texts(name) == ()
        assert FIELDS.flag(name, default=True) is True
    assert FIELDS.given(["none", "a"]) == ["a"]
    with pytest.raises(RequestError, match="other is missing, expected an object"):
        FIELDS.object("other")


@pytest.mark.parametrize("number", [2, 2.0, 1e300, 10**400])
def test_a_whole_number_is_one_however_it_is_written(number: Any) -> None:
    assert Fields({"n": number}).count("n") == int(number)


@pytest.mark.parametrize("number", [True, "1", 1.5, float("inf"), float("nan"), [1]])
def test_anything_else_is_not(number: Any) -> None:
    with pytest.raises(RequestError, match="n is "):
        Fields({"n": number}).count("n")


def test_one_text_is_a_list_of_one() -> None:
    assert Fields({"t": "a"}).texts("t") == ("a",)
    assert Fields({"t": ["a", ""]}).texts("t") == ("a", "")


def test_true_is_not_one_and_zero_is_not_false() -> None:
    assert is_one_of(1, [1.0])
    assert not is_one_of(True, [1])
    assert not is_one_of(0, [False])
    assert is_one_of([], [[]])


def test_fields_may_be_left_out() -> None:
    rest = Fields({"a": 1, "b": 2}, "here").without(["a"])
    assert (rest.get("a"), rest.get("b"), rest.path("b")) == (None, 2, "here.b")
