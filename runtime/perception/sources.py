"""Which view a call means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.perception.calls import CallError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vpt_edge.runtime.perception.rules import PictureRule
    from vpt_edge.runtime.perception.views import View

MOST_DIGITS = 6  # of the number of a crop


def count_pictures(views: Sequence[View]) -> int:
    """How many pictures the request has: each was shown before any look."""
    return 1 + max(view.picture for view in views)


def find_view(rule: PictureRule, arguments: Mapping[str, Any], views: Sequence[View]) -> int:
    """The index into ``views`` of the one that ``arguments`` name. Raises CallError."""
    ends = {"first": 0, "last": len(views) - 1}
    if rule.argument is None:
        return ends[rule.by]
    if rule.argument not in arguments and rule.missing != "refuse":
        return ends[rule.missing]
    value = arguments.get(rule.argument)
    if rule.by == "index":
        index = _read_index(value, rule)
    else:
        index = _read_name(value, rule, views)
    if not 0 <= index < len(views):
        raise CallError(f"{rule.argument} names a picture that was not shown")
    return index


def _read_index(value: Any, rule: PictureRule) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value % 1 != 0:  # NaN and infinity too
        raise CallError(f"{rule.argument} is not a whole number")
    return int(value) - rule.base


def _read_name(value: Any, rule: PictureRule, views: Sequence[View]) -> int:
    assert rule.crop is not None
    if value == rule.original:
        return 0
    number = ""
    if isinstance(value, str) and value.startswith(rule.crop):
        number = value.removeprefix(rule.crop)
    if not number.isascii() or not number.isdigit() or len(number) > MOST_DIGITS:
        raise CallError(f"{rule.argument} is neither {rule.original} nor {rule.crop} and a number")
    return count_pictures(views) + int(number) - rule.base
