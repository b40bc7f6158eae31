"""The user's turn that hands looks back, and answers bad calls in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from vpt_edge.runtime.perception.actions import Crop
from vpt_edge.runtime.perception.sources import count_pictures
from vpt_edge.runtime.perception.wording import PICTURE, fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.perception.actions import PerceptionAction
    from vpt_edge.runtime.perception.calls import CallError
    from vpt_edge.runtime.perception.looks import Looks
    from vpt_edge.runtime.perception.rules import HandBack, Rules
    from vpt_edge.runtime.perception.views import View

Outcome: TypeAlias = "Looks | str"  # what a call gets: looks, or words


def refuse(error: CallError, rules: Rules, views: Sequence[View]) -> str:
    """The words that answer a bad call."""
    values = {"reason": error, "name": rules.call.name, "pictures": len(views)}
    return fill(rules.hand_back.error, values)


def render_hand_back(
    outcomes: Sequence[Outcome], rule: HandBack, views: Sequence[View], left: int
) -> str:
    """The user's turn, with a placeholder for each picture.

    ``views``: what was shown before; ``left``: how many rounds remain behind this one.
    """
    parts = list[str]()
    view = len(views)
    for outcome in outcomes:
        if isinstance(outcome, str):
            part = outcome
        else:
            part = _render_looks(outcome, rule, views, view)
            view += len(outcome)
        if rule.role == "tool":
            part = f"<tool_response>\n{part}\n</tool_response>"
        parts.append(part)
    if left <= 0:
        parts[-1] += rule.last
    return "\n".join(parts)


def _render_looks(looks: Looks, rule: HandBack, views: Sequence[View], view: int) -> str:
    """``view``: the index of the first look among all views."""
    index = view - count_pictures(views)
    width, height = _size(looks[0], views)
    values = {
        "picture": "\n".join([PICTURE] * len(looks)),
        "index": index,
        "number": index + 1,
        "view": view,
        "width": width,
        "height": height,
    }
    return fill(rule.text, values)


def _size(action: PerceptionAction, views: Sequence[View]) -> Size:
    """(width, height) of what is shown, before the tower's own resize."""
    if isinstance(action, Crop) and action.size is not None:
        return action.size
    box = views[0].box
    if isinstance(action, Crop):
        box = action.box
    left, top, right, bottom = box
    return right - left, bottom - top
