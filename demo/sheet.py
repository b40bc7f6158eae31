"""Pictures with what was answered about them, on one sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.runtime import Answer

COLUMNS = 6
TILE = 320  # pixels of a picture
INSET = 112  # of a crop in it
LINE = 18
GAP = 8
LOOKED = "cyan"
RIGHT = "darkgreen"
WRONG = "firebrick"


@dataclass(frozen=True)
class Line:
    """Below a picture."""

    text: str
    colour: str = "black"


def draw_captioned(picture: Image.Image, lines: Sequence[Line]) -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE + LINE * len(lines)), "white")
    tile.paste(picture.resize((TILE, TILE), Image.Resampling.LANCZOS))
    pencil = ImageDraw.Draw(tile)
    font = ImageFont.load_default(13)
    for row, line in enumerate(lines):
        pencil.text((2, TILE + LINE * row), line.text, line.colour, font)
    return tile


def draw_answer(answer: Answer, truth: str) -> Image.Image:
    """The picture with the boxes of the looks, the crop of the last of them in a corner, and
    question, answer and truth.
    """
    colour = RIGHT if answer.text == truth else WRONG
    verdict = Line(f"{answer.text}   (truth: {truth})", colour)
    tile = draw_captioned(answer.image.convert("RGB"), [Line(answer.question), verdict])
    pencil = ImageDraw.Draw(tile)
    scale = TILE / answer.image.width
    for region in answer.regions():
        left, top, right, bottom = (round(side * scale) for side in region.box)
        pencil.rectangle((left, top, right, bottom), None, LOOKED, 2)
        inset = region.crop.convert("RGB").resize((INSET, INSET), Image.Resampling.LANCZOS)
        x = 0 if left + right > TILE else TILE - INSET
        y = 0 if top + bottom > TILE else TILE - INSET
        tile.paste(inset, (x, y))
        pencil.rectangle((x, y, x + INSET - 1, y + INSET - 1), None, LOOKED, 2)
    return tile


def join(tiles: Sequence[Image.Image]) -> Image.Image:
    """All of them, which are of one size, on one sheet. Raises VptError where there are none."""
    if not tiles:
        raise VptError("there is no picture for the sheet", "ask for one at least: --count 1")
    width, height = tiles[0].size
    columns = min(len(tiles), COLUMNS)
    rows = -(-len(tiles) // columns)
    size = (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet.paste(tile, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet
