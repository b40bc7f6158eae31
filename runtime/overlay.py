"""Draws an answer: the picture with the grid, the chosen cells, the box, and each crop as an inset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from vpt_edge.runtime.perception.vpt import GRID

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.result import Answer, Looked

SIDE = 720  # of the picture's longest side
MARGIN = 16
TEXT_WIDTH = 560  # room for question and answer beside a narrow picture
INK, PAPER, LINE = (28, 32, 38), (250, 250, 248), (255, 255, 255, 90)
COLOURS = ((255, 94, 58), (52, 152, 219), (46, 204, 113), (155, 89, 182))


def draw(answer: Answer) -> Image.Image:
    """The overlay as an RGB picture: on the left what the model was shown, on the right what it
    looked at again."""
    picture = answer.image.convert("RGB")
    scale = SIDE / max(picture.size)
    picture = picture.resize(
        [max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS
    )
    regions = [look for look in answer.looks if look.crop is not None]
    _mark(
        picture,
        [(look, COLOURS[index % len(COLOURS)]) for index, look in enumerate(regions)],
        answer.image.size,
    )
    insets = [
        _inset(look, COLOURS[index % len(COLOURS)], picture.height, len(regions))
        for index, look in enumerate(regions)
    ]
    width = max(
        TEXT_WIDTH, picture.width + (MARGIN + max(inset.width for inset in insets) if insets else 0)
    )
    lines = _lines(answer, width)
    font = ImageFont.load_default(20)
    height = (
        max(picture.height, sum(inset.height + MARGIN for inset in insets) - MARGIN)
        + MARGIN
        + 28 * len(lines)
    )
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), PAPER)
    sheet.paste(picture, (MARGIN, MARGIN))
    top = MARGIN
    for inset in insets:
        sheet.paste(inset, (picture.width + 2 * MARGIN, top))
        top += inset.height + MARGIN
    pen = ImageDraw.Draw(sheet)
    for index, line in enumerate(lines):
        pen.text((MARGIN, height + MARGIN - 28 * (len(lines) - index)), line, fill=INK, font=font)
    return sheet


def _mark(
    picture: Image.Image, looks: list[tuple[Looked, tuple[int, int, int]]], size: tuple[int, int]
) -> None:
    """Draw grid, cells and boxes into ``picture``, a resized copy of one of ``size`` (width,
    height)."""
    pen = ImageDraw.Draw(picture, "RGBA")
    across, down = (side / GRID for side in picture.size)
    if looks:
        for index in range(1, GRID):
            pen.line((index * across, 0, index * across, picture.height), fill=LINE)
            pen.line((0, index * down, picture.width, index * down), fill=LINE)
    for look, colour in looks:
        assert look.cells is not None and look.box is not None
        x0, y0, x1, y1 = look.cells
        pen.rectangle(
            (x0 * across, y0 * down, (x1 + 1) * across, (y1 + 1) * down), fill=(*colour, 80)
        )
        pen.rectangle(
            _scaled(look.box, picture.width / size[0], picture.height / size[1]),
            outline=colour,
            width=4,
        )


def _scaled(box: Box, across: float, down: float) -> Box:
    left, top, right, bottom = box
    x, y = round(left * across), round(top * down)
    return x, y, max(x, round(right * across) - 1), max(y, round(bottom * down) - 1)


def _inset(look: Looked, colour: tuple[int, int, int], height: int, count: int) -> Image.Image:
    """The crop in a frame of its colour, as large as ``count`` of them beside a picture of
    ``height`` may be."""
    assert look.crop is not None
    crop = (
        look.crop.convert("RGB") if 0 not in look.crop.size else Image.new("RGB", (1, 1))
    )  # of a tiny picture
    room = max(1, (height - MARGIN * (count - 1)) // count - 8)
    scale = min(room / max(crop.height, 1), SIDE * 0.8 / max(crop.width, 1))
    crop = crop.resize(
        [max(1, round(side * scale)) for side in crop.size], Image.Resampling.BICUBIC
    )
    framed = Image.new("RGB", (crop.width + 8, crop.height + 8), colour)
    framed.paste(crop, (4, 4))
    return framed


def _lines(answer: Answer, width: int) -> list[str]:
    """Question, looks and answer, each cut to what fits into ``width`` pixels."""
    looks = "; ".join(describe(look) for look in answer.looks) or "answered at the first look"
    fits = max(12, width // 10)
    lines = (f"Q  {answer.question}", f"    {looks}", f"A  {answer.text}")
    flat = (" ".join(line.split()) if line.strip() else line for line in lines)
    return [line if len(line) <= fits else line[: fits - 1] + "…" for line in flat]


def describe(look: Looked) -> str:
    """One look in words, such as ``looked again at cells (5,2)-(6,3), 210x190 px``."""
    if look.cells is None or look.box is None:
        return f"looked again at the whole picture ({look.kind}, {look.tokens} tokens)"
    (x0, y0, x1, y1), (left, top, right, bottom) = look.cells, look.box
    return f"looked again at cells ({x0},{y0})-({x1},{y1}), {right - left}x{bottom - top} px"
