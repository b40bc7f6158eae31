"""A scatter plot of accuracy over seconds, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from vpt_edge.calibration.html import COLOURS

WIDTH = 720
HEIGHT = 380
LEFT = 64  # pixels around the plot: of the scales, and of the names to the right
RIGHT = 190
TOP = 16
BOTTOM = 48
TICKS = 5
RADIUS = 5
GREY = "#c9c5bc"


class Point(NamedTuple):
    """A named place, with the interval of ``y``; ``marked`` ones are joined by a line."""

    name: str
    x: float
    y: float
    low: float
    high: float
    marked: bool = False
    chosen: bool = False


class Scale:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        self.least = min(values)
        self.most = max(values)
        if self.least == self.most:
            self.most += 1.0
            self.least -= 1.0
        self._first = first
        self._last = last

    def place(self, value: float) -> float:
        share = (value - self.least) / (self.most - self.least)
        return self._first + share * (self._last - self._first)

    def ticks(self) -> list[float]:
        step = (self.most - self.least) / (TICKS - 1)
        return [self.least + index * step for index in range(TICKS)]


def scatter(points: Sequence[Point], x_title: str, y_title: str) -> str:
    """The ``points``, one or more, with their intervals as bars."""
    x = Scale([0.0, *(point.x for point in points)], LEFT, WIDTH - RIGHT)
    bounds = [value for point in points for value in (point.low, point.high)]
    y = Scale(bounds, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">']
    parts += _grid(x, y, x_title, y_title)
    marked = sorted(point for point in points if point.marked)
    line = " ".join(f"{x.place(point.x):.1f},{y.place(point.y):.1f}" for point in marked)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[0]}"/>')
    for point in points:
        parts += _mark(point, x, y)
    return "".join(parts) + "</svg>"


def _grid(x: Scale, y: Scale, x_title: str, y_title: str) -> list[str]:
    bottom = HEIGHT - BOTTOM
    right = WIDTH - RIGHT
    parts = []
    for value in y.ticks():
        place = y.place(value)
        parts.append(_line(LEFT, place, right, place, GREY))
        parts.append(_text(LEFT - 8, place + 4, f"{value:.1f}", "end"))
    for value in x.ticks():
        parts.append(_text(x.place(value), bottom + 18, f"{value:.3g}", "middle"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 8, x_title, "middle"))
    parts.append(_text(LEFT, TOP - 4, y_title, "start"))
    return parts


def _mark(point: Point, x: Scale, y: Scale) -> list[str]:
    colour = COLOURS[0] if point.marked else COLOURS[1]
    if point.chosen:
        colour = COLOURS[2]
    left = x.place(point.x)
    middle = y.place(point.y)
    circle = f'<circle cx="{left:.1f}" cy="{middle:.1f}" r="{RADIUS}" fill="{colour}"/>'
    return [
        _line(left, y.place(point.low), left, y.place(point.high), colour),
        circle,
        _text(left + 9, middle + 4, point.name, "start"),
    ]


def _line(left: float, top: float, right: float, bottom: float, colour: str) -> str:
    start = f'x1="{left:.1f}" y1="{top:.1f}"'
    return f'<line {start} x2="{right:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'


def _text(left: float, top: float, text: str, anchor: str) -> str:
    place = f'x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(text)}</text>"
