"""Which view a call means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from descriptions import crop_view, rules_of, view
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.perception.calls import CallError
from vpt_edge.runtime.perception.rules import PictureRule
from vpt_edge.runtime.perception.sources import count_pictures, find_view
from vpt_edge.runtime.perception.views import View

FIRST = PictureRule("first", None, 0, None, None, "refuse")
LAST = replace(FIRST, by="last")
INDEX = replace(FIRST, by="index", argument="img_idx")
ONE_BASED = replace(INDEX, base=1)
NAMED = replace(
    FIRST, by="name", argument="source", base=1, original="original_image", crop="observation_"
)
VIEWS = [view(64, 48), crop_view((0, 0, 32, 24)), crop_view((8, 8, 16, 16))]
SECOND = View(1, (0, 0, 64, 48), (64, 48), (64, 48))
SEVERAL = [view(64, 48), SECOND, crop_view((0, 0, 32, 24))]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=3,
)


def test_the_shipped_rule_counts_everything_shown() -> None:
    assert rules_of({}).look.picture == replace(INDEX, missing="first")


def test_pictures_of_the_request_come_first() -> None:
    assert count_pictures(VIEWS) == 1
    assert count_pictures(SEVERAL) == 2


@pytest.mark.parametrize(
    ("rule", "arguments", "index"),
    [
        (FIRST, {}, 0),
        (LAST, {}, 2),
        (INDEX, {"img_idx": 0}, 0),
        (INDEX, {"img_idx": 2}, 2),
        (INDEX, {"img_idx": 1.0}, 1),
        (ONE_BASED, {"img_idx": 1}, 0),
        (ONE_BASED, {"img_idx": 3}, 2),
        (NAMED, {"source": "original_image"}, 0),
        (NAMED, {"source": "observation_1"}, 1),
        (NAMED, {"source": "observation_02"}, 2),
        (replace(NAMED, base=0), {"source": "observation_0"}, 1),
        (replace(INDEX, missing="first"), {}, 0),
        (replace(INDEX, missing="last"), {}, 2),
        (replace(NAMED, missing="last"), {"label": "a sign"}, 2),
    ],
)
def test_a_call_names_a_view(rule: PictureRule, arguments: dict[str, Any], index: int) -> None:
    assert find_view(rule, arguments, VIEWS) == index


def test_crops_are_counted_behind_all_pictures() -> None:
    assert find_view(NAMED, {"source": "observation_1"}, SEVERAL) == 2
    assert find_view(INDEX, {"img_idx": 1}, SEVERAL) == 1
    assert find_view(LAST, {}, SEVERAL) == 2


@pytest.mark.parametrize(
    ("rule", "value", "reason"),
    [
        (INDEX, 3, "names a picture that was not shown"),
        (INDEX, -1, "names a picture that was not shown"),
        (ONE_BASED, 0, "names a picture that was not shown"),
        (INDEX, 10**400, "names a picture that was not shown"),
        (INDEX, 0.5, "is not a whole number"),
        (INDEX, float("nan"), "is not a whole number"),
        (INDEX, float("inf"), "is not a whole number"),
        (INDEX, "0", "is not a whole number"),
        (INDEX, True, "is not a whole number"),
        (INDEX, None, "is not a whole number"),
        (NAMED, "observation_3", "names a picture that was not shown"),
        (NAMED, "observation_", "is neither original_image nor observation_ and a number"),
        (NAMED, "observation_-1", "is neither"),
        (NAMED, "observation_²", "is neither"),
        (NAMED, "observation_" + "1" * 5000, "is neither"),
        (NAMED, "original", "is neither"),
        (NAMED, 1, "is neither"),
        (NAMED, ["original_image"], "is neither"),
    ],
)
def test_a_view_that_is_not_there_is_refused(rule: PictureRule, value: Any, reason: str) -> None:
    assert rule.argument is not None
    with pytest.raises(CallError, match=f"^{rule.argument} {reason}"):
        find_view(rule, {rule.argument: value}, VIEWS)


def test_a_missing_argument_is_refused() -> None:
    with pytest.raises(CallError, match=r"^img_idx is not a whole number$"):
        find_view(INDEX, {}, VIEWS)
    with pytest.raises(CallError, match=r"^source is neither"):
        find_view(NAMED, {}, VIEWS)


@given(values, st.sampled_from([INDEX, ONE_BASED, NAMED]), st.sampled_from([VIEWS, SEVERAL]))
def test_any_value_names_a_view_or_is_refused(
    value: Any, rule: PictureRule, views: list[View]
) -> None:
    assert rule.argument is not None
    try:
        index = find_view(rule, {rule.argument: value}, views)
    except CallError:
        return
    assert 0 <= index < len(views)
