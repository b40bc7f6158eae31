"""Test pictures, for when there is no camera."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BARS = ((192, 192, 192), (192, 192, 0), (0, 192, 192), (0, 192, 0), (192, 0, 192), (192, 0, 0))
PERIOD = 4.0  # seconds in which the ball goes to and fro
RADIUS = 0.1  # of the ball, as a share of the shorter side


class TestPattern:
    """One of PATTERNS, ``width`` by ``height`` pixels.

    "bars" and "black" stand still; "ball" moves along; "noise" is new each time, and the same at
    the same moment.
    """

    __test__ = False  # pytest's

    def __init__(self, pattern: str, width: int, height: int) -> None:
        self._draw = PATTERNS[pattern]
        self._width = width
        self._height = height

    def pixels(self, position: float) -> NDArray[np.uint8]:
        return self._draw(self._width, self._height, position)

    def truth(self, position: float) -> Mapping[str, str]:
        return {}


def _draw_bars(width: int, height: int, position: float) -> NDArray[np.uint8]:
    columns = np.arange(width) * len(BARS) // width
    row = np.array(BARS, np.uint8)[columns]
    return np.repeat(row[None], height, axis=0)


def _draw_black(width: int, height: int, position: float) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def _draw_ball(width: int, height: int, position: float) -> NDArray[np.uint8]:
    pixels = _draw_black(width, height, position)
    radius = RADIUS * min(width, height)
    angle = 2 * math.pi * position / PERIOD
    x = width / 2 + (width / 2 - radius) * math.sin(angle)
    y = height / 2 + (height / 2 - radius) * math.sin(2 * angle)
    rows = np.arange(height)[:, None] + 0.5
    columns = np.arange(width)[None] + 0.5
    pixels[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = 255
    return pixels


def _draw_noise(width: int, height: int, position: float) -> NDArray[np.uint8]:
    generator = np.random.default_rng(round(position * 1000))
    return generator.integers(0, 256, (height, width, 3), np.uint8)


PATTERNS: dict[str, Callable[[int, int, float], NDArray[np.uint8]]] = {
    "ball": _draw_ball,
    "bars": _draw_bars,
    "black": _draw_black,
    "noise": _draw_noise,
}
