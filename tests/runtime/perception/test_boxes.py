"""From the corners that a model names to a box in whole pixels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from descriptions import crop_view, rules_of, view
from hypothesis import example, given
from hypothesis import strategies as st

from vpt_edge.runtime.perception.boxes import crop_size, first_size, place
from vpt_edge.runtime.perception.calls import CallError
from vpt_edge.runtime.perception.rules import (
    BoxRule,
    FirstView,
    Padding,
    ResizeRule,
    Rules,
    SmallRule,
)

SHIPPED: Rules = rules_of({})
assert SHIPPED.look.box is not None
BOX: BoxRule = replace(SHIPPED.look.box, small=None)
COORDINATES = (
    "pixels_shown",
    "pixels_original",
    "unit",
    "thousand",
    "unit_or_pixels_shown",
    "unit_or_pixels_original",
)
VIEW = view(800, 600, shown=(400, 300))
CROP = crop_view((100, 100, 300, 200), shown=(400, 224))
THIN: dict[str, Any] = {
    "coordinates": "pixels_original",
    "small": SmallRule(32, "enlarge"),  # beyond any number
}
sides = st.integers(1, 3000)
views = st.builds(lambda w, h, a, b: view(w, h, shown=(a, b)), sides, sides, sides, sides)
paddings = st.builds(Padding, st.sampled_from(["box", "picture", "pixels"]), st.floats(0, 65536))
smalls = st.builds(SmallRule, st.integers(1, 65536), st.sampled_from(["enlarge", "refuse"]))
box_rules = st.builds(
    BoxRule,
    st.just("bbox_2d"),
    st.sampled_from(COORDINATES),
    st.sampled_from(["clamp", "refuse"]),
    st.sampled_from(["down", "nearest"]),
    st.none() | paddings,
    st.none() | smalls,
    st.floats(1, 200),
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
corners = st.tuples(numbers, numbers, numbers, numbers) | st.tuples(*[st.floats(-10, 1010)] * 4)
pixels = st.tuples(st.integers(1, 1 << 25), st.integers(1, 1 << 25)).map(sorted).map(tuple)
resizes = st.builds(
    ResizeRule,
    st.none() | st.floats(0.1, 4),
    st.none() | pixels,
    st.none() | st.integers(1, 64),
    st.just("bicubic"),
)


@pytest.mark.parametrize(
    ("coordinates", "named", "box"),
    [
        ("pixels_shown", (100, 50, 200, 150), (200, 100, 400, 300)),
        ("pixels_original", (100, 50, 200, 150), (100, 50, 200, 150)),
        ("unit", (0.25, 0.5, 0.75, 1), (200, 300, 600, 600)),
        ("thousand", (250, 500, 750, 1000), (200, 300, 600, 600)),
        ("unit_or_pixels_shown", (0.25, 0.5, 0.75, 0.9), (200, 300, 600, 540)),
        ("unit_or_pixels_shown", (0, 0, 1, 1), (0, 0, 2, 2)),  # one of them is not below 1
        ("unit_or_pixels_original", (0.25, 0.5, 0.75, 0.9), (200, 300, 600, 540)),
        ("unit_or_pixels_original", (100, 50, 200, 150), (100, 50, 200, 150)),
    ],
)
def test_coordinates_are_of_the_view(
    coordinates: str, named: tuple[float, float, float, float], box: tuple[int, ...]
) -> None:
    assert place(named, VIEW, replace(BOX, coordinates=coordinates)) == box


def test_a_crop_is_a_view_like_another() -> None:
    named = (100.0, 56.0, 300.0, 112.0)
    assert place(named, CROP, replace(BOX, coordinates="pixels_shown")) == (50, 25, 150, 50)
    assert place((500, 0, 1000, 500), CROP, BOX) == (100, 0, 200, 50)


@pytest.mark.parametrize(
    ("rule", "named", "box"),
    [
        ({"outside": "clamp"}, (-100, 100, 900, 700), (0, 100, 800, 600)),
        ({"rounding": "down"}, (10.5, 10.7, 20.5, 21.9), (10, 10, 20, 21)),
        ({"rounding": "nearest"}, (10.5, 10.7, 21.5, 21.9), (10, 11, 22, 22)),
        ({"rounding": "down"}, (29, 57, 58, 115), (29, 57, 58, 115)),  # 29 / 800 * 800 is less
        ({"padding": Padding("box", 0.25)}, (100, 100, 200, 300), (75, 50, 225, 350)),
        ({"padding": Padding("picture", 0.1)}, (100, 100, 200, 300), (20, 40, 280, 360)),
        ({"padding": Padding("pixels", 28)}, (10, 100, 200, 300), (0, 72, 228, 328)),
        ({"small": SmallRule(32, "enlarge")}, (100, 100, 110, 110), (89, 89, 121, 121)),
        ({"small": SmallRule(32, "enlarge")}, (100, 100, 110, 120), (89, 78, 121, 142)),
        ({"small": SmallRule(32, "enlarge")}, (0, 0, 10, 10), (0, 0, 10, 10)),  # at the corner
        ({"small": SmallRule(32, "enlarge")}, (100, 100, 132, 132), (100, 100, 132, 132)),
        ({"small": SmallRule(31, "refuse")}, (100, 100, 131, 131), (100, 100, 131, 131)),
        ({"largest_aspect": 2.0}, (100, 100, 200, 300), (100, 100, 200, 300)),
        ({}, (799.9, 599.9, 1000, 1000), (799, 599, 800, 600)),
        ({}, (10.1, 10.1, 10.2, 10.2), (10, 10, 11, 11)),
    ],
)
def test_each_rule_shapes_the_box(
    rule: dict[str, Any], named: tuple[float, float, float, float], box: tuple[int, ...]
) -> None:
    rules = {"coordinates": "pixels_original", **rule}
    assert place(named, VIEW, replace(BOX, **rules)) == box


@pytest.mark.parametrize(
    ("rule", "named", "reason"),
    [
        ({}, (200, 100, 100, 200), "has no area"),
        ({}, (100, 200, 200, 100), "has no area"),
        ({}, (100, 100, 100, 200), "has no area"),
        ({}, (math.nan, 100, 200, 200), "has no area"),
        ({}, (800, 100, 900, 200), "lies outside of the picture"),
        ({}, (-200, -200, -100, -100), "lies outside of the picture"),
        ({"outside": "refuse"}, (-1, 100, 200, 200), "reaches beyond the picture"),
        ({"outside": "refuse"}, (100, 100, 200, 601), "reaches beyond the picture"),
        ({"small": SmallRule(31, "refuse")}, (0, 0, 30, 300), "a side of fewer than 31 pixels"),
        ({"largest_aspect": 2.0}, (0, 0, 100, 201), "more than 2 times as long as wide"),
    ],
)
def test_a_box_that_cannot_be_shown_is_refused(
    rule: dict[str, Any], named: tuple[float, float, float, float], reason: str
) -> None:
    rules = {"coordinates": "pixels_original", **rule}
    with pytest.raises(
        CallError, match=f"^the box {reason}|^the box has {reason}|^the box is {reason}"
    ):
        place(named, VIEW, replace(BOX, **rules))


@given(corners, views, box_rules)
@example((0, 0, 1e308, 1e308), view(1, 1), BOX)
@example((-1e308, -1e308, 1e308, 1e308), view(3000, 1), BOX)
@example((0, 0, 5e-324, 5e-324), view(7, 7), BOX)
@example((0, 0, 5e-324, 5), view(7, 7), replace(BOX, **THIN))
def test_a_box_lies_within_its_view(named: Any, shown: Any, rule: BoxRule) -> None:
    try:
        left, top, right, bottom = place(named, shown, rule)
    except CallError:
        return
    width, height = shown.size
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    longest = max(right - left, bottom - top)
    assert longest <= rule.largest_aspect * min(right - left, bottom - top)
    if rule.small is not None and rule.small.action == "refuse":
        assert min(right - left, bottom - top) >= rule.small.side - 1  # by the rounding


@pytest.mark.parametrize(
    ("rule", "size"),
    [
        (ResizeRule(None, None, None, "nearest"), (200, 100)),
        (ResizeRule(2, None, None, "nearest"), (200, 100)),  # shown at half side
        (ResizeRule(2, (12544, 14745600), 28, "lanczos"), (196, 112)),
        (ResizeRule(None, (40000, 2000000), None, "nearest"), (282, 141)),
        (ResizeRule(None, (1, 5000), None, "nearest"), (100, 50)),
        (ResizeRule(None, (262144, 12845056), 32, "bicubic"), (736, 384)),
        (ResizeRule(None, (3136, 12845056), 28, "bicubic"), (196, 112)),
        (ResizeRule(None, (1, 10000), 28, "bicubic"), (140, 56)),
        (ResizeRule(None, None, 32, "bicubic"), (192, 96)),
    ],
)
def test_a_crop_is_brought_to_its_size(rule: ResizeRule, size: tuple[int, int]) -> None:
    assert crop_size((100, 100, 300, 200), VIEW, rule) == size


def test_a_thin_crop_keeps_a_multiple_on_each_side() -> None:
    rule = ResizeRule(None, (1, 10000), 28, "bicubic")
    assert crop_size((0, 0, 10, 3000), view(10, 3000), rule) == (28, 1708)


@given(views, resizes, st.data())
def test_a_size_keeps_to_its_rule(shown: Any, rule: ResizeRule, data: st.DataObject) -> None:
    left = data.draw(st.integers(0, shown.size[0] - 1))
    top = data.draw(st.integers(0, shown.size[1] - 1))
    right = data.draw(st.integers(left + 1, shown.size[0]))
    bottom = data.draw(st.integers(top + 1, shown.size[1]))
    width, height = crop_size((left, top, right, bottom), shown, rule)
    assert width >= 1 and height >= 1
    multiple = rule.multiple or 1
    assert width % multiple == 0 and height % multiple == 0
    if rule.pixels is not None and min(width, height) > multiple:
        assert width * height <= rule.pixels[1] or width * height <= rule.pixels[0] * 4


@pytest.mark.parametrize(
    ("size", "shrunk"),
    [
        ((640, 480), (320, 240)),
        ((641, 481), (320, 240)),
        ((50, 400), (28, 224)),
        ((20, 9), (20, 9)),
    ],
)
def test_a_first_view_is_smaller(size: tuple[int, int], shrunk: tuple[int, int]) -> None:
    assert first_size(size, FirstView(0.5, 28, "lanczos")) == shrunk


@given(sides, sides, st.floats(0.01, 1), st.integers(1, 65536))
def test_no_first_view_is_larger(width: int, height: int, scale: float, least: int) -> None:
    shrunk = first_size((width, height), FirstView(scale, least, "lanczos"))
    assert 1 <= shrunk[0] <= width and 1 <= shrunk[1] <= height
