"""From the text of a turn to the calls in it.

Tags are plain texts and are looked for as such: no expression of a description is ever matched, so
that none can run away.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from vpt_edge.runtime.schema import parse_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from vpt_edge.runtime.perception.rules import CallRule

Corners: TypeAlias = "tuple[float, float, float, float]"  # as the model names them

LONGEST = 4096  # letters of a call
LONGEST_BOX = 128  # letters of a bare box
SIDES = 4
BRACKETS = str.maketrans("", "", "[]()")


class CallError(ValueError):
    """What is wrong with a call, in words for the model; they hold nothing that it said."""


def find_calls(text: str, rule: CallRule, stops: Collection[str] = ()) -> list[str]:
    """What stands in the calls of ``text``, from which thoughts are left out.

    A call without its closing tag is none, unless that is one of ``stops``, in front of which a
    turn may have been cut.
    """
    if rule.opening:
        spans = list(_find_tagged(text, rule, stops))
    else:
        spans = list(_find_boxes(text))
    if rule.place == "end":
        end = len(text.rstrip())
        spans = [span for span in spans if span[1] >= end]
    calls = [content for content, _ in spans]
    if rule.which == "first":
        return calls[:1]
    if rule.which == "last":
        return calls[-1:]
    return calls


def _find_tagged(text: str, rule: CallRule, stops: Collection[str]) -> Iterator[tuple[str, int]]:
    """What stands between the tags, and where each call ends."""
    end = 0
    while (start := text.find(rule.opening, end)) >= 0:
        start += len(rule.opening)
        end = text.find(rule.closing, start)
        if end >= 0:
            yield text[start:end], end + len(rule.closing)
            end += len(rule.closing)
        else:
            if rule.closing in stops:
                yield text[start:], len(text)
            return


def _find_boxes(text: str) -> Iterator[tuple[str, int]]:
    """Four numbers in brackets, with nothing around them by which to know a box."""
    start = text.find("[")
    while start >= 0:
        end = text.find("]", start, start + LONGEST_BOX) + 1
        content = text[start:end]
        if end > 0 and _is_box(content):
            yield content, end
        else:
            end = start + 1
        start = text.find("[", end)


def _is_box(content: str) -> bool:
    try:
        read_box(content)
    except CallError:
        return False
    return True


def read_arguments(content: str, rule: CallRule) -> dict[str, Any]:
    """The arguments in the JSON of a call. Raises CallError."""
    call = _read_object(content)
    if rule.form == "arguments":
        return call
    if call.get("name") != rule.name:
        raise CallError(f"the only function is {rule.name}")
    arguments = call.get("arguments")
    if not isinstance(arguments, dict):
        raise CallError("arguments is not a JSON object")
    return arguments


def _read_object(content: str) -> dict[str, Any]:
    if len(content) > LONGEST:
        raise CallError(f"the call has more than {LONGEST} letters")
    try:
        call = parse_json(content)
    except ValueError:
        raise CallError("the call is not JSON") from None
    if not isinstance(call, dict):
        raise CallError("the call is not a JSON object")
    return call


def read_box(content: str) -> Corners:
    """The numbers of a box in round or square brackets. Raises CallError."""
    parts = content.translate(BRACKETS).split(",")
    if len(parts) != SIDES or len(content) > LONGEST:
        raise CallError("the box is not a list of four numbers")
    try:
        numbers = [parse_json(part) for part in parts]
    except ValueError:
        raise CallError("the box is not a list of four numbers") from None
    return read_corners(numbers, "the box")


def read_corners(value: Any, name: str) -> Corners:
    """``value`` of JSON, which errors call ``name``, as four finite numbers. Raises CallError."""
    if not isinstance(value, list) or len(value) != SIDES:
        raise CallError(f"{name} is not a list of four numbers")
    left, top, right, bottom = [_read_number(number, name) for number in value]
    return left, top, right, bottom


def _read_number(value: Any, name: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    number = math.nan
    if is_number:
        try:
            number = float(value)
        except OverflowError:  # an integer of hundreds of digits
            number = math.inf
    if not math.isfinite(number):
        raise CallError(f"{name} is not a list of four numbers")
    return number
