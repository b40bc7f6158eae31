"""From the corners that a model names to a box in whole pixels of a view."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from vpt_edge.runtime.perception.calls import CallError

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box, Size
    from vpt_edge.runtime.perception.calls import Corners
    from vpt_edge.runtime.perception.rules import BoxRule, FirstView, Padding, ResizeRule
    from vpt_edge.runtime.perception.views import View

Range: TypeAlias = "tuple[float, float]"  # one side of a box: where it begins and ends

THOUSAND = 1000


def place(corners: Corners, view: View, rule: BoxRule) -> Box:
    """(left, top, right, bottom) in pixels of ``view.size``: inside of it, at least one pixel.

    Raises CallError for a box that cannot be shown.
    """
    x0, y0, x1, y1 = corners
    if not (x0 < x1 and y0 < y1):
        raise CallError(
            "the box has no area: its second corner is not right of and below its first"
        )
    is_unit = max(corners) < 1
    across = _place_side((x0, x1), is_unit, (view.size[0], view.shown[0]), rule)
    down = _place_side((y0, y1), is_unit, (view.size[1], view.shown[1]), rule)
    if rule.small is not None:
        across, down = _check_small(across, down, view.size, rule)
    left, right = _round(across, view.size[0], rule)
    top, bottom = _round(down, view.size[1], rule)
    width = right - left
    height = bottom - top
    if max(width, height) > rule.largest_aspect * min(width, height):
        raise CallError(f"the box is more than {rule.largest_aspect:g} times as long as wide")
    return left, top, right, bottom


def _place_side(side: Range, is_unit: bool, sizes: tuple[int, int], rule: BoxRule) -> Range:
    """One side in pixels of the view, padded and clamped.

    ``sizes``: the view's own pixels along it, and those in which it was shown.
    """
    size, shown = sizes
    unit = whole_side(rule.coordinates, is_unit, size, shown)
    start = side[0] * size / unit
    end = side[1] * size / unit
    if rule.outside == "refuse" and not (start >= 0 and end <= size):
        raise CallError("the box reaches beyond the picture")
    start = max(start, 0.0)
    end = min(end, float(size))
    if start >= end:
        raise CallError("the box lies outside of the picture")
    padding = _padding(rule.padding, end - start, size)
    return max(start - padding, 0.0), min(end + padding, float(size))


def whole_side(coordinates: str, is_unit: bool, size: int, shown: int) -> int:
    """What the whole side is in the model's numbers."""
    if coordinates.startswith("unit_or_"):
        if is_unit:
            return 1
        coordinates = coordinates.removeprefix("unit_or_")
    units = {"pixels_shown": shown, "pixels_original": size, "unit": 1, "thousand": THOUSAND}
    return units[coordinates]


def _padding(padding: Padding | None, length: float, size: int) -> float:
    if padding is None:
        return 0.0
    units = {"box": length, "picture": size, "pixels": 1.0}
    return padding.amount * units[padding.of]


def _check_small(across: Range, down: Range, size: Size, rule: BoxRule) -> tuple[Range, Range]:
    """A box with a short side, enlarged about its centre with its aspect kept, by whole pixels
    outwards, as Qwen-Agent's zoom tool does it; where the picture does not hold that, as it is.
    """
    assert rule.small is not None
    shortest = min(across[1] - across[0], down[1] - down[0])
    if shortest >= rule.small.side:
        return across, down
    if rule.small.action == "refuse":
        raise CallError(f"the box has a side of fewer than {rule.small.side} pixels")
    ratio = rule.small.side / shortest
    wider = _enlarge(across, ratio, size[0])
    higher = _enlarge(down, ratio, size[1])
    if min(wider[1] - wider[0], higher[1] - higher[0]) >= rule.small.side:
        return wider, higher
    return across, down


def _enlarge(side: Range, ratio: float, size: int) -> Range:
    centre = (side[0] + side[1]) / 2
    half = math.ceil(min((side[1] - side[0]) * ratio * 0.5, size))
    return max(math.floor(centre - half), 0), min(math.ceil(centre + half), size)


def _round(side: Range, size: int, rule: BoxRule) -> tuple[int, int]:
    """Whole pixels, at least one."""
    if rule.rounding == "nearest":
        start = round(side[0])
        end = round(side[1])
    else:
        start = int(side[0])
        end = int(side[1])
    start = min(start, size - 1)
    return start, max(end, start + 1)


def crop_size(box: Box, view: View, rule: ResizeRule) -> Size:
    """(width, height) to which the crop of ``box`` is brought.

    The pixels are those of Qwen's smart_resize where sides are multiples of something.
    """
    left, top, right, bottom = box
    width = float(right - left)
    height = float(bottom - top)
    if rule.scale is not None:
        width *= rule.scale * view.shown[0] / view.size[0]
        height *= rule.scale * view.shown[1] / view.size[1]
    if rule.multiple is None:
        factor = _fit_factor(width * height, rule.pixels)
        return max(int(width * factor), 1), max(int(height * factor), 1)
    return _fit_multiple(width, height, rule.multiple, rule.pixels)


def _fit_factor(area: float, pixels: tuple[int, int] | None) -> float:
    """By which each side of an ``area`` grows or shrinks to come between ``pixels``."""
    if pixels is None:
        return 1.0
    least, most = pixels
    return math.sqrt(min(max(area, least), most) / area)


def _fit_multiple(
    width: float, height: float, multiple: int, pixels: tuple[int, int] | None
) -> Size:
    columns = max(round(width / multiple), 1)
    rows = max(round(height / multiple), 1)
    factor = _fit_factor(width * height, pixels) / multiple
    tile = multiple**2
    if pixels is not None and columns * rows * tile > pixels[1]:
        columns = max(math.floor(width * factor), 1)
        rows = max(math.floor(height * factor), 1)
    elif pixels is not None and columns * rows * tile < pixels[0]:
        columns = math.ceil(width * factor)
        rows = math.ceil(height * factor)
    return columns * multiple, rows * multiple


def first_size(size: Size, rule: FirstView) -> Size:
    """What a picture of ``size`` is brought to before it is first shown, never larger than it is.

    Sides are cut to whole pixels; where one would be below ``least_side``, both grow until it is
    not.
    """
    width, height = (int(side * rule.scale) for side in size)
    shortest = min(width, height)
    if shortest < rule.least_side:
        factor = rule.least_side / max(shortest, 1)
        width = int(max(width, 1) * factor)
        height = int(max(height, 1) * factor)
    return min(width, size[0]), min(height, size[1])
