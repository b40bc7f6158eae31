"""The table, the plot and the page of a tuning."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from vpt_edge.tuning.candidate import DEFAULT, Candidate, Setting
from vpt_edge.tuning.page import page
from vpt_edge.tuning.plot import Point, scatter
from vpt_edge.tuning.table import Row, choose, describe_choice, stopped_texts, texts

EVIL = "<script>alert('&')</script>"
USUAL = Row(
    name="as exported",
    candidate=DEFAULT,
    held=True,
    stopped="",
    count=500,
    labelled=500,
    accuracy=0.98,
    accuracy_interval=(0.966, 0.99),
    drop=0.0,
    drop_interval=(0.0, 0.0),
    answers_equal=1.0,
    boxes_iou=1.0,
    first_token=0.012,
    whole=0.04,
    memory=100 << 20,
    optimal=True,
)
FAST = replace(
    USUAL,
    name="first view 28,224 px",
    candidate=Candidate(setting=Setting(first_max_pixels=28224)),
    accuracy=0.976,
    accuracy_interval=(0.962, 0.988),
    drop=0.4,
    drop_interval=(-0.2, 1.0),
    answers_equal=0.99,
    boxes_iou=0.875,
    whole=0.025,
    memory=90 << 20,
)
GONE = Row(EVIL, Candidate(1), False, f"the drop is too large {EVIL}", count=12)


def tree(markup: str) -> ElementTree.Element:
    """The page as XML: all of its elements are closed but for two of the head's."""
    return ElementTree.fromstring(re.sub(r"<!doctype html>|<meta [^>]*>", "", markup))


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    markup = page(EVIL, [USUAL, FAST, GONE], FAST, 0.5)
    root = tree(markup)
    text = "".join(root.itertext())
    assert text.count(EVIL) == 4  # title, heading, the name and why it was given up
    assert {element.tag for element in root.iter()} & {"script", "link", "img"} == set()
    assert "http" not in markup
    headings = [element.text for element in root.iter("h2")]
    assert headings == ["Choice", "Plot", "Settings that were asked all samples", "Given up"]
    cells = [element.text for element in root.iter("td")]
    row = [
        *("first view 28,224 px *", "97.60 % (96.20 to 98.80)", "0.40 (-0.20 to 1.00)"),
        *("99.0 %", "0.875", "12.0 ms", "25.0 ms", "90 MiB"),
    ]
    assert cells[8:16] == row
    assert "25.0 ms an answer, 62% of the default's 40.0 ms, at a drop of 0.40" in text


def test_a_tuning_in_which_nothing_held() -> None:
    markup = page("bundle", [USUAL], USUAL, 0.5)
    text = "".join(tree(markup).itertext())
    assert "the bundle stays as it was exported" in text
    assert "Given up" not in text


def test_without_true_answers_the_plot_is_of_equal_answers() -> None:
    bare = replace(USUAL, accuracy=None, accuracy_interval=None, labelled=0)
    fast = replace(FAST, accuracy=None, accuracy_interval=None, labelled=0)
    text = "".join(tree(page("bundle", [bare, fast], fast, 0.5)).itertext())
    assert "answers equal, %" in text
    assert "accuracy, %" not in text


def test_points_stand_where_their_values_are() -> None:
    points = [
        Point("a", 1.0, 90.0, 80.0, 100.0, marked=True),
        Point(EVIL, 2.0, 100.0, 100.0, 100.0, marked=True, chosen=True),
        Point("c", 0.0, 80.0, 80.0, 80.0),
    ]
    root = ElementTree.fromstring(scatter(points, "seconds", "accuracy, %"))
    places = []
    for circle in root.iter("circle"):
        places.append((float(circle.attrib["cx"]), float(circle.attrib["cy"])))
    left, top = places[0]
    assert places[1][0] - left == pytest.approx(left - places[2][0])
    assert top - places[1][1] == pytest.approx(places[2][1] - top)
    (line,) = root.iter("polyline")
    assert len(line.attrib["points"].split()) == 2
    assert EVIL in [text.text for text in root.iter("text")]
    single = scatter([Point("a", 0.0, 1.0, 1.0, 1.0)], "x", "y")
    assert "nan" not in single


def test_the_choice_is_the_fastest_that_held() -> None:
    lost = replace(FAST, whole=0.01, held=False)
    assert choose([USUAL, lost, FAST]) == FAST
    assert choose([USUAL, lost]) == USUAL
    assert choose([USUAL, replace(FAST, whole=0.05)]) == USUAL
    assert describe_choice(USUAL, USUAL).startswith("Nothing that was tried")


def test_texts_leave_out_what_is_not_known() -> None:
    bare = replace(USUAL, accuracy=None, accuracy_interval=None, memory=None, optimal=False)
    assert texts([bare, GONE]) == [
        ("as exported", "", "", "100.0 %", "1.000", "12.0 ms", "40.0 ms", "")
    ]
    assert stopped_texts([bare, GONE]) == [(EVIL, "12", GONE.stopped)]
