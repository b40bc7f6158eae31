"""Where a sign and its letters are in the picture.

A card is measured in heights of its capitals, from the middle of its board.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.live.signs.faces import measure_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.live.signs.sign import Card, Kind, Pose, Sign

    Floats = NDArray[np.float64]

WIDEST = 1.8  # cells: a crop of three by three shows it whole, wherever in the middle one it is
PADS: dict[Kind, tuple[float, float]] = {  # beside the text and above it
    "sign": (0.6, 0.55),
    "plate": (0.5, 0.45),
    "label": (0.45, 0.45),
    "tag": (0.4, 0.45),
}
BANDS: dict[Kind, float] = {"plate": 0.5, "tag": 1.0}  # what is left of the text besides


@dataclass(frozen=True)
class Board:
    """``width`` and ``height`` of what the text stands on; ``centres``: x of each character."""

    width: float
    height: float
    centres: tuple[float, ...]


@functools.lru_cache(maxsize=4096)
def measure_board(kind: Kind, text: str, face: str) -> Board:
    """In heights of a capital."""
    beside, above = PADS[kind]
    band = BANDS.get(kind, 0.0)
    advances = measure_text(text, face)
    width = sum(advances) + 2 * beside + band
    pen = band + beside - width / 2
    centres = list[float]()
    for advance in advances:
        centres.append(pen + advance / 2)
        pen += advance
    return Board(width, 1 + 2 * above, tuple(centres))


def board_of(card: Card) -> Board:
    return measure_board(card.kind, card.text, card.face)


def matrix_of(sign: Sign) -> Floats:
    """(3, 3): from heights of a capital on the card to cells of the picture."""
    board = board_of(sign.card)
    width = min(board.width * sign.cap * sign.pose.stretch, WIDEST)
    source = _rectangle(board.width, board.height)
    return homography(source, place(width, board.height * sign.cap, sign.pose))


def place(width: float, height: float, pose: Pose) -> Floats:
    """The corners (4, 2) of a rectangle of so many cells, from the upper left one clockwise."""
    corners = _rectangle(width, height)
    corners[:, 1] *= (pose.left, pose.right, pose.right, pose.left)
    corners[:, 0] += pose.slant * corners[:, 1]
    cos = math.cos(pose.tilt)
    sin = math.sin(pose.tilt)
    return corners @ np.array([[cos, sin], [-sin, cos]]) + pose.centre


def _rectangle(width: float, height: float) -> Floats:
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return signs * (width / 2, height / 2)


def homography(source: Floats, target: Floats) -> Floats:
    """(3, 3): the perspective that brings four points (4, 2) to four others."""
    rows = list[list[float]]()
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    values = np.linalg.solve(np.array(rows), target.reshape(-1))
    return np.append(values, 1.0).reshape(3, 3)


def project(matrix: Floats, points: Floats) -> Floats:
    """Points (n, 2) through a perspective (3, 3)."""
    ends = np.column_stack((points, np.ones(len(points)))) @ matrix.T
    return ends[:, :2] / ends[:, 2:]


def outline(sign: Sign) -> Floats:
    """The corners (4, 2) of the board in cells, from the upper left one clockwise."""
    board = board_of(sign.card)
    return project(matrix_of(sign), _rectangle(board.width, board.height))


def box_of(sign: Sign, side: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the board in a picture of ``side`` pixels."""
    corners = outline(sign) * side / 8
    left, top = np.floor(corners.min(0)).astype(int)
    right, bottom = np.ceil(corners.max(0)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def glyph_lines(sign: Sign) -> Floats:
    """(characters, 2, 2): the middle of each character's upper and lower edge, in cells."""
    centres = np.array(board_of(sign.card).centres)
    edges = np.stack([np.column_stack((centres, np.full_like(centres, y))) for y in (-0.5, 0.5)])
    ends = project(matrix_of(sign), edges.reshape(-1, 2)).reshape(2, -1, 2)
    return ends.transpose(1, 0, 2)
