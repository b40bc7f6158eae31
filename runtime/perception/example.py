"""A call as a model might write it, for a measurement of what a look takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.perception.boxes import whole_side

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box, Size
    from vpt_edge.runtime.perception.rules import PictureRule, Rules
    from vpt_edge.runtime.perception.views import View

DIGITS = 4  # of a share of the picture: finer than a pixel


def write_call(rules: Rules, view: View) -> str:
    """A call that looks at the middle of the request's first picture, which is shown as ``view``.

    The box is a square of half of the shorter side.
    """
    content = _write_content(rules, view)
    thoughts = rules.turn.thoughts
    start = ""
    if thoughts is not None and thoughts.prompted:  # a call within thoughts is none
        start = f"{thoughts.closing}\n\n"
    return f"{start}{rules.call.opening}{content}{rules.call.closing}"


def _write_content(rules: Rules, view: View) -> str:
    """What stands between the tags."""
    look = rules.look
    arguments = dict[str, Any]()
    if look.picture is not None and look.picture.argument is not None:
        arguments[look.picture.argument] = _name_picture(look.picture)
    if look.box is not None:
        corners = _write_corners(look.box.coordinates, view)
        if look.box.argument is None:
            return json.dumps(corners)
        arguments[look.box.argument] = corners
    call = arguments
    if rules.call.form == "function":
        call = {"name": rules.call.name, "arguments": arguments}
    return f"\n{json.dumps(call)}\n"


def _write_corners(coordinates: str, view: View) -> list[float]:
    """The middle of ``view`` in the numbers that the model names."""
    corners = list[float]()
    for place, pixel in enumerate(_middle(view.size)):
        size = view.size[place % 2]
        unit = whole_side(coordinates, True, size, view.shown[place % 2])
        digits = DIGITS if unit == 1 else None
        corners.append(round(pixel * unit / size, digits))
    return corners


def _middle(size: Size) -> Box:
    """(left, top, right, bottom) in pixels of a picture of ``size``."""
    width, height = size
    side = max(min(size) // 2, 1)
    left = (width - side) // 2
    top = (height - side) // 2
    return left, top, left + side, top + side


def _name_picture(rule: PictureRule) -> int | str | None:
    """What names the request's first picture."""
    return rule.base if rule.by == "index" else rule.original
