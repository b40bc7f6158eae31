"""Signs and distractors as they are seen straight on."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from vpt_edge.live.scenes import COLOURS
from vpt_edge.live.signs.faces import open_face
from vpt_edge.live.signs.geometry import BANDS, PADS, board_of

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Pencil

    from vpt_edge.live.signs.sign import Card, Colour, Shape

    Box = tuple[float, float, float, float]

MARGIN = 0.4  # heights of a capital around a board, for what its edges blend into
POLE = 2.2  # how far the pole under a sign is seen
INK = (22, 22, 26)
PAPER = (238, 236, 228)
METAL = (126, 128, 130)
DARK_TEXT = ("orange", "yellow", "white")  # colours that dark letters stand on


@functools.lru_cache(maxsize=256)
def draw_card(card: Card, unit: int) -> Image.Image:
    """RGBA, with capitals of ``unit`` pixels; the board's middle is at ``origin(card)``."""
    board = board_of(card)
    x, y = origin(card)
    width = round(2 * x * unit)
    height = round(2 * y * unit)
    if card.kind == "sign":
        height += round(POLE * unit)
    picture = Image.new("RGBA", (width, height), (*METAL, 0))
    pencil = ImageDraw.Draw(picture)
    box = (
        MARGIN * unit,
        MARGIN * unit,
        (x + board.width / 2) * unit,
        (y + board.height / 2) * unit,
    )
    fill = shade(COLOURS[card.colour], card.tint)
    MAKES[card.kind](pencil, box, fill, unit)
    ink = INK if card.colour in DARK_TEXT else PAPER
    if card.panel:
        _draw_panel(pencil, card, unit)
        ink = INK
    face = open_face(card.face, unit)
    for centre, character in zip(board.centres, card.text, strict=True):
        at = ((x + centre) * unit, (y + 0.5) * unit)
        pencil.text(at, character, ink, face, anchor="ms")
    return picture


def origin(card: Card) -> tuple[float, float]:
    """Where the board's middle is on the card, in heights of a capital."""
    board = board_of(card)
    return board.width / 2 + MARGIN, board.height / 2 + MARGIN


def shade(colour: Colour, tint: Colour) -> Colour:
    red, green, blue = (
        min(max(base + change, 0), 255) for base, change in zip(colour, tint, strict=True)
    )
    return red, green, blue


def _draw_sign(pencil: Pencil, box: Box, fill: Colour, unit: int) -> None:
    """A board with round corners on a pole."""
    left, _, right, bottom = box
    middle = (left + right) / 2
    half = 0.18 * unit
    pole = (middle - half, bottom, middle + half, bottom + (MARGIN + POLE) * unit)
    pencil.rectangle(pole, METAL)
    pencil.rounded_rectangle(box, 0.4 * unit, fill, INK, max(unit // 10, 1))


def _draw_plate(pencil: Pencil, box: Box, fill: Colour, unit: int) -> None:
    """A frame with a grey band at its left, and a screw at either end."""
    left, top, right, bottom = box
    pencil.rectangle(box, fill, INK, max(unit // 7, 1))
    pencil.rectangle((left, top, left + BANDS["plate"] * unit, bottom), METAL, INK)
    middle = (top + bottom) / 2
    radius = 0.09 * unit
    for x in (left + 0.25 * unit, right - 0.25 * unit):
        screw = (x - radius, middle - radius, x + radius, middle + radius)
        pencil.ellipse(screw, PAPER, INK)


def _draw_label(pencil: Pencil, box: Box, fill: Colour, unit: int) -> None:
    """A sticker with a rim of paper."""
    left, top, right, bottom = box
    rim = 0.12 * unit
    pencil.rectangle(box, PAPER)
    pencil.rectangle((left + rim, top + rim, right - rim, bottom - rim), fill)


def _draw_tag(pencil: Pencil, box: Box, fill: Colour, unit: int) -> None:
    """It ends in a point, with a hole."""
    left, top, right, bottom = box
    middle = (top + bottom) / 2
    neck = left + BANDS["tag"] * unit
    edges = [(left, middle), (neck, top), (right, top), (right, bottom), (neck, bottom)]
    pencil.polygon(edges, fill, INK)
    radius = 0.17 * unit
    x = left + 0.65 * unit
    pencil.ellipse((x - radius, middle - radius, x + radius, middle + radius), PAPER, INK)


MAKES = {"sign": _draw_sign, "plate": _draw_plate, "label": _draw_label, "tag": _draw_tag}


def _draw_panel(pencil: Pencil, card: Card, unit: int) -> None:
    """A field of paper behind the text."""
    board = board_of(card)
    x, y = origin(card)
    beside, above = PADS[card.kind]
    band = BANDS.get(card.kind, 0.0)
    left = x - board.width / 2 + band + 0.6 * beside
    right = x + board.width / 2 - 0.6 * beside
    half = 0.5 + 0.3 * above
    pencil.rectangle((left * unit, (y - half) * unit, right * unit, (y + half) * unit), PAPER)


@functools.lru_cache(maxsize=256)
def draw_shape(shape: Shape, fill: Colour, width: int, height: int) -> Image.Image:
    """A distractor, RGBA of ``width`` by ``height`` pixels."""
    picture = Image.new("RGBA", (width, height), (*fill, 0))
    pencil = ImageDraw.Draw(picture)
    edge = max(height // 24, 1)
    box = (edge, edge, width - 1 - edge, height - 1 - edge)
    if shape == "disc":
        pencil.ellipse(box, fill, INK, edge)
    elif shape == "triangle":
        pencil.polygon([(width / 2, edge), box[2:], (edge, box[3])], fill, INK)
    elif shape == "blank":
        pencil.rectangle(box, fill, INK, edge)
    else:
        step = max(height // 4, 2)
        for y in range(edge, height - step // 2, step):
            pencil.rectangle((edge, y, width - 1 - edge, y + step // 2 - 1), fill)
    return picture
