"""Draws looks: the picture with the grid, the chosen cells, the box, and each crop as an inset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from vpt_edge.runtime.perception.actions import GRID

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box

Colour: TypeAlias = tuple[int, int, int]

SIDE = 720  # of the picture's longest side
MARGIN = 16
FRAME = 4  # around an inset
LINE_HEIGHT = 28
FONT_SIZE = 20
TEXT_WIDTH = 560  # at least, for the captions below a narrow picture
INK = (28, 32, 38)
PAPER = (250, 250, 248)
LINE = (255, 255, 255, 90)
COLOURS = ((255, 94, 58), (52, 152, 219), (46, 204, 113), (155, 89, 182))


class Region(NamedTuple):
    """``cells`` on the grid, inclusive, or None; ``box`` in the picture's pixels.

    ``crop``: what it shows; ``picture``: the index of the picture in which it is.
    """

    cells: Box | None
    box: Box
    crop: Image.Image
    picture: int = 0


def draw(
    image: Image.Image,
    regions: Sequence[Region],
    captions: Sequence[str],
    others: Sequence[Image.Image] = (),
) -> Image.Image:
    """The overlay as an RGB picture.

    On the left what the model was shown, ``others`` below ``image``, on the right what it looked at
    again, below ``captions``.
    """
    images = [image, *others]
    pictures = [_enlarge(each, SIDE / len(images)) for each in images]
    if any(region.cells is not None for region in regions):
        for picture in pictures:
            draw_grid(picture)
    height = sum(picture.height + MARGIN for picture in pictures) - MARGIN
    insets = []
    for index, region in enumerate(regions):
        colour = COLOURS[index % len(COLOURS)]
        mark(pictures[region.picture], region, colour, images[region.picture].size)
        insets.append(_inset(region.crop, colour, height, len(regions)))
    return _sheet(_stack(pictures), insets, captions)


def _enlarge(image: Image.Image, side: float) -> Image.Image:
    """``image`` in RGB, with so many pixels on its longest side."""
    picture = image.convert("RGB")
    scale = side / max(picture.size)
    return picture.resize(_scaled_size(picture, scale), Image.Resampling.LANCZOS)


def _stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """One below the other."""
    if len(pictures) == 1:
        return pictures[0]
    width = max(picture.width for picture in pictures)
    height = sum(picture.height + MARGIN for picture in pictures) - MARGIN
    column = Image.new("RGB", (width, height), PAPER)
    top = 0
    for picture in pictures:
        column.paste(picture, (0, top))
        top += picture.height + MARGIN
    return column


def _sheet(
    picture: Image.Image, insets: Sequence[Image.Image], captions: Sequence[str]
) -> Image.Image:
    """Picture, insets and captions on one sheet of paper."""
    beside = max([inset.width + MARGIN for inset in insets], default=0)
    stacked = sum(inset.height + MARGIN for inset in insets) - MARGIN
    width = max(TEXT_WIDTH, picture.width + beside)
    lines = [_fit(caption, width) for caption in captions]
    height = max(picture.height, stacked) + MARGIN + LINE_HEIGHT * len(lines)
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), PAPER)
    sheet.paste(picture, (MARGIN, MARGIN))
    top = MARGIN
    for inset in insets:
        sheet.paste(inset, (picture.width + 2 * MARGIN, top))
        top += inset.height + MARGIN
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    top = height + MARGIN - LINE_HEIGHT * len(lines)
    for line in lines:
        pen.text((MARGIN, top), line, fill=INK, font=font)
        top += LINE_HEIGHT
    return sheet


def _scaled_size(picture: Image.Image, scale: float) -> tuple[int, int]:
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def draw_grid(picture: Image.Image, width: int = 1) -> None:
    """Draw the lines of the grid, so many pixels wide, into ``picture``."""
    pen = ImageDraw.Draw(picture, "RGBA")
    for index in range(1, GRID):
        x = index * picture.width / GRID
        y = index * picture.height / GRID
        pen.line((x, 0, x, picture.height), fill=LINE, width=width)
        pen.line((0, y, picture.width, y), fill=LINE, width=width)


def mark(
    picture: Image.Image,
    region: Region,
    colour: Colour,
    size: tuple[int, int],
    width: int = FRAME,
) -> None:
    """Draw cells and box, its line ``width`` pixels wide, into ``picture``, a resized copy of one
    of ``size`` (width, height).
    """
    pen = ImageDraw.Draw(picture, "RGBA")
    if region.cells is not None:
        across = picture.width / GRID
        down = picture.height / GRID
        x0, y0, x1, y1 = region.cells
        cells = (x0 * across, y0 * down, (x1 + 1) * across, (y1 + 1) * down)
        pen.rectangle(cells, fill=(*colour, 80))
    box = _scaled_box(region.box, picture.width / size[0], picture.height / size[1])
    pen.rectangle(box, outline=colour, width=width)


def _scaled_box(box: Box, across: float, down: float) -> Box:
    left, top, right, bottom = box
    x = round(left * across)
    y = round(top * down)
    return x, y, max(x, round(right * across) - 1), max(y, round(bottom * down) - 1)


def _inset(crop: Image.Image, colour: Colour, height: int, count: int) -> Image.Image:
    """The crop in a frame of its colour.

    As large as ``count`` of them beside a picture of ``height`` may be.
    """
    if 0 in crop.size:  # of a tiny picture
        crop = Image.new("RGB", (1, 1))
    crop = crop.convert("RGB")
    free = max(1, (height - MARGIN * (count - 1)) // count - 2 * FRAME)
    scale = min(free / crop.height, SIDE * 0.8 / crop.width)
    crop = crop.resize(_scaled_size(crop, scale), Image.Resampling.BICUBIC)
    framed = Image.new("RGB", (crop.width + 2 * FRAME, crop.height + 2 * FRAME), colour)
    framed.paste(crop, (FRAME, FRAME))
    return framed


def _fit(caption: str, width: int) -> str:
    """``caption`` on one line, cut to what fits into ``width`` pixels."""
    most = max(12, width // 10)
    line = " ".join(caption.split())
    if len(line) <= most:
        return line
    return line[: most - 1] + "…"
