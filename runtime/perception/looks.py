"""From a call to what is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

from vpt_edge.runtime.perception.actions import Crop, Whole
from vpt_edge.runtime.perception.boxes import crop_size, place
from vpt_edge.runtime.perception.calls import CallError, read_arguments, read_box, read_corners
from vpt_edge.runtime.perception.sources import count_pictures, find_view

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.perception.actions import PerceptionAction, Resampling
    from vpt_edge.runtime.perception.calls import Corners
    from vpt_edge.runtime.perception.rules import ResizeRule, Rules
    from vpt_edge.runtime.perception.views import View

Looks: TypeAlias = "tuple[PerceptionAction, ...]"

LARGEST_ASPECT = 200  # of a picture that a tower takes


def read_call(content: str, rules: Rules, views: Sequence[View]) -> Looks:
    """What the call with ``content`` between its tags looks at. Raises CallError."""
    look = rules.look
    arguments: dict[str, Any] = {}
    if rules.call.form != "box":
        arguments = read_arguments(content, rules.call)
    if look.box is None or look.picture is None:
        return tuple(Whole(picture) for picture in range(count_pictures(views)))
    source = find_view(look.picture, arguments, views)
    if look.box.argument is None:
        corners = read_box(content)
    else:
        corners = _read_argument(arguments, look.box.argument)
    box = place(corners, views[source], look.box)
    return (_crop(box, source, views[source], look.resize),)


def _read_argument(arguments: dict[str, Any], name: str) -> Corners:
    if name not in arguments:
        raise CallError(f"{name} is missing")
    return read_corners(arguments[name], name)


def _crop(box: Box, source: int, view: View, resize: ResizeRule | None) -> Crop:
    if resize is None:
        return Crop(None, box, source)
    size = crop_size(box, view, resize)
    if max(size) > LARGEST_ASPECT * min(size):
        raise CallError(f"the box is more than {LARGEST_ASPECT} times as long as wide")
    resampling = cast("Resampling", resize.resampling)
    return Crop(None, box, source, size, resampling, resize.pixels)
