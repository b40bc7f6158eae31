"""Where a call is found in a turn's text, and what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from descriptions import NAME, call, rules_of
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.perception.calls import (
    LONGEST,
    CallError,
    find_calls,
    read_arguments,
    read_box,
    read_corners,
)

TAGGED = rules_of({}).call
FENCED = replace(TAGGED, opening="```json", closing="```", form="arguments", name=None)
BOXED = replace(TAGGED, opening="<bbox>", closing="</bbox>", form="box", name=None)
BARE = replace(TAGGED, opening="", closing="", form="box", name=None)
pieces = st.sampled_from(
    ["<tool_call>", "</tool_call>", "<tool", "_call>", "{", "}", "[1,2,3,4]", "[", "]", ",", "1"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("rule", "text", "calls"),
    [
        (TAGGED, "A dog.", []),
        (TAGGED, "So <tool_call>a</tool_call> and <tool_call>b</tool_call>.", ["a", "b"]),
        (TAGGED, "<tool_call>a", []),
        (TAGGED, "a</tool_call><tool_call>b</tool_call>", ["b"]),
        (TAGGED, "<tool_call><tool_call>a</tool_call></tool_call>", ["<tool_call>a"]),
        (FENCED, 'See:\n```json\n{"a": 1}\n```', ['\n{"a": 1}\n']),
        (BOXED, "<bbox>[1,2,3,4]</bbox>", ["[1,2,3,4]"]),
        (BARE, "It is [see] at [1, 2, 3, 4] or (5).", ["[1, 2, 3, 4]"]),
        (BARE, "[[1, 2, 3, 4]] [1, 2] [1.5, 2e1, -3, 4]", ["[[1, 2, 3, 4]", "[1.5, 2e1, -3, 4]"]),
        (BARE, "[1, 2, 3, 4", []),
        (BARE, f"[1, 2, 3, {' ' * 99}4] [1, 2, 3, {' ' * 999}4]", [f"[1, 2, 3, {' ' * 99}4]"]),
    ],
)
def test_a_call_stands_between_tags(rule: Any, text: str, calls: list[str]) -> None:
    assert find_calls(text, rule) == calls


@pytest.mark.parametrize(
    ("which", "place", "calls"),
    [
        ("first", "anywhere", ["a"]),
        ("last", "anywhere", ["b"]),
        ("all", "anywhere", ["a", "b"]),
        ("first", "end", []),
        ("last", "end", []),
        ("all", "end", []),
    ],
)
def test_of_several_calls_the_rule_says_which(which: str, place: str, calls: list[str]) -> None:
    text = "<tool_call>a</tool_call> <tool_call>b</tool_call> Well."
    rule = replace(TAGGED, which=which, place=place)
    assert find_calls(text, rule) == calls


@pytest.mark.parametrize("which", ["first", "last", "all"])
def test_at_the_end_means_that_only_space_follows(which: str) -> None:
    rule = replace(TAGGED, which=which, place="end")
    assert find_calls("<tool_call>a</tool_call><tool_call>b</tool_call> \n", rule) == ["b"]


def test_a_call_may_have_been_cut_by_the_stop_text() -> None:
    text = '<tool_call>{"a": 1}'
    assert find_calls(text, TAGGED, ("</tool_call>",)) == ['{"a": 1}']
    assert find_calls(text, replace(TAGGED, place="end"), ("</tool_call>",)) == ['{"a": 1}']
    assert find_calls(text, TAGGED, ("</answer>",)) == []


def test_a_tag_is_no_expression() -> None:
    """What would run away as one is found as it stands."""
    rule = replace(TAGGED, opening="(a+)+$", closing="(a|a)*")
    assert find_calls("a" * 100_000 + "!", rule) == []
    assert find_calls("(a+)+$x(a|a)*", rule) == ["x"]
    assert find_calls("[" * 100_000, BARE) == []
    assert find_calls("[1," * 100_000, BARE) == []
    assert find_calls("<tool_call>" * 100_000, TAGGED) == []


@given(st.lists(pieces, max_size=20).map("".join))
def test_any_text_has_its_calls(text: str) -> None:
    for rule in (TAGGED, BARE):
        calls = find_calls(text, rule)
        assert find_calls(text, replace(rule, which="first")) == calls[:1]
        assert find_calls(text, replace(rule, which="last")) == calls[-1:]
        assert all(content in text for content in calls)
        at_end = find_calls(text, replace(rule, place="end"))
        assert at_end == calls[len(calls) - len(at_end) :]


def content_of(said: str) -> str:
    (content,) = find_calls(said, TAGGED)
    return content


def test_a_function_is_called_by_name() -> None:
    assert read_arguments(content_of(call([1, 2, 3, 4])), TAGGED)["bbox_2d"] == [1, 2, 3, 4]
    assert read_arguments(' {"a": 1} ', FENCED) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"name": "zoom", "arguments": {}}', f"the only function is {NAME}"),
        ('{"arguments": {}}', f"the only function is {NAME}"),
        ('{"name": ["a"], "arguments": {}}', f"the only function is {NAME}"),
        (f'{{"name": "{NAME}"}}', "arguments is not a JSON object"),
        (f'{{"name": "{NAME}", "arguments": "{{}}"}}', "arguments is not a JSON object"),
        ("[1, 2, 3, 4]", "the call is not a JSON object"),
        ("null", "the call is not a JSON object"),
        ("", "the call is not JSON"),
        ('{"name": ', "the call is not JSON"),
        ("{'name': 'zoom'}", "the call is not JSON"),
        ("[" * LONGEST, "the call is not JSON"),
        ("1" * LONGEST, "the call is not JSON|the call is not a JSON object"),
        (" " * LONGEST + "{}", f"the call has more than {LONGEST} letters"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(content: str, reason: str) -> None:
    with pytest.raises(CallError, match=f"^({reason})$"):
        read_arguments(content, TAGGED)


@given(json_values)
def test_any_json_is_arguments_or_refused(value: Any) -> None:
    for rule in (TAGGED, FENCED):
        for said in (value, {"name": NAME, "arguments": value}):
            try:
                arguments = read_arguments(json.dumps(said), rule)
            except CallError:
                continue
            assert isinstance(arguments, dict)


@pytest.mark.parametrize(
    ("content", "corners"),
    [
        ("[1, 2, 3, 4]", (1, 2, 3, 4)),
        ("(1,2),(3,4)", (1, 2, 3, 4)),
        (" 0.5, 1e2, -3 ,4.0 ", (0.5, 100, -3, 4)),
    ],
)
def test_a_box_is_four_numbers(content: str, corners: tuple[float, ...]) -> None:
    assert read_box(content) == corners


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        "[1 2 3 4]",
        "[1, 2, 3, NaN]",
        "[1, 2, 3, Infinity]",
        "[1, 2, 3, 1e999]",
        "[1, 2, 3, true]",
        '["1", 2, 3, 4]',
        "[a, b, c, d]",
        "[1, 2, 3, {}]",
        f"[1, 2, 3, 1{'0' * 400}]",
        f"[1, 2, 3, {'9' * 5000}]",
        "[1, 2, 3, 4" + " " * LONGEST,
    ],
)
def test_another_box_is_refused(content: str) -> None:
    with pytest.raises(CallError, match=r"^the box is not a list of four numbers$"):
        read_box(content)


@given(json_values | st.lists(json_values, min_size=4, max_size=4))
def test_corners_are_finite_numbers_or_refused(value: Any) -> None:
    try:
        corners = read_corners(value, "bbox_2d")
    except CallError:
        return
    assert [type(corner) for corner in corners] == [float] * 4
    assert list(corners) == value


@pytest.mark.parametrize("value", [None, "[1,2,3,4]", [1, 2, 3], [True, 2, 3, 4], [[1, 2], [3, 4]]])
def test_other_corners_are_refused(value: Any) -> None:
    with pytest.raises(CallError, match=r"^bbox_2d is not a list of four numbers$"):
        read_corners(value, "bbox_2d")
