"""Draws the newest answers into a source's pictures."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from vpt_edge.runtime.overlay import COLOURS, draw_grid, mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.live.frame import Frame
    from vpt_edge.live.seen import Seen
    from vpt_edge.runtime.overlay import Colour, Region

QUESTIONS = 3  # shown at most: the newest
TEXT = 0.034  # height of the font, as a share of the picture's shorter side
SMALLEST = 10  # pixels: below that nothing can be read
BORDER = 0.004  # width of a box's line
INSET = 0.3  # of the picture, at most
CACHED = 64  # texts
BAND = (0, 0, 0, 160)
QUESTION = (190, 200, 210)
ANSWER = (255, 255, 255)


class Overlay:
    """The answers about one source: with their age, the boxes of their looks, the crops as insets.

    They are drawn on every picture of the source until newer ones come, in its own size.
    """

    def __init__(self) -> None:
        self._answers: dict[str, Seen] = {}  # the newest of a question; the newest of all last
        self._insets: dict[int, Image.Image] = {}

    def add(self, seen: Seen) -> None:
        """From now on show ``seen`` instead of the last answer to its question, and of what was
        asked once before.
        """
        for old in list(self._answers.values()):
            if old.once or old.question == seen.question:
                del self._answers[old.question]
        self._answers[seen.question] = seen
        self._insets = {}

    def draw(self, frame: Frame) -> Image.Image:
        """The picture of ``frame`` with what is known, RGB."""
        picture = frame.image
        answers = list(self._answers.values())[-QUESTIONS:]
        regions = []
        for seen in answers:
            newest = len(seen.answer.others)  # of several frames the one that was asked about
            for region in seen.answer.regions():
                if region.picture == newest:
                    regions.append(region)
        self._draw_looks(picture, regions)
        _draw_texts(picture, answers, frame)
        return picture

    def _draw_looks(self, picture: Image.Image, regions: Sequence[Region]) -> None:
        width = max(1, round(min(picture.size) * BORDER))
        if any(region.cells is not None for region in regions):
            draw_grid(picture, max(1, width // 3))
        on_the_left = _lie_on_the_right(regions, picture.width)
        top = width
        for index, region in enumerate(regions):
            colour = COLOURS[index % len(COLOURS)]
            mark(picture, region, colour, picture.size, width)
            inset = self._inset(index, region, colour, picture.size)
            left = width if on_the_left else picture.width - inset.width - width
            if top + inset.height <= picture.height:
                picture.paste(inset, (left, top))
            top += inset.height + width

    def _inset(
        self, index: int, region: Region, colour: Colour, size: tuple[int, int]
    ) -> Image.Image:
        """The crop in a frame of its colour, for a picture of ``size``; drawn once."""
        inset = self._insets.get(index)
        if inset is None:
            inset = _frame_crop(region.crop, colour, size)
            self._insets[index] = inset
        return inset


def _lie_on_the_right(regions: Sequence[Region], width: int) -> bool:
    """Whether what was looked at leaves more room on the left of a picture of ``width``."""
    lefts = [region.box[0] for region in regions]
    rights = [region.box[2] for region in regions]
    return bool(regions) and min(lefts) > width - max(rights)


def _frame_crop(crop: Image.Image, colour: Colour, size: tuple[int, int]) -> Image.Image:
    border = max(1, round(min(size) * BORDER))
    if 0 in crop.size:  # of a tiny picture
        crop = Image.new("RGB", (1, 1))
    scale = min(size[0] * INSET / crop.width, size[1] * INSET / crop.height)
    scaled = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    crop = crop.convert("RGB").resize(scaled, Image.Resampling.BILINEAR)
    framed = Image.new("RGB", (crop.width + 2 * border, crop.height + 2 * border), colour)
    framed.paste(crop, (border, border))
    return framed


def _draw_texts(picture: Image.Image, answers: Sequence[Seen], frame: Frame) -> None:
    """A band at the bottom: a line a question, and one for its answer and how old that is."""
    if not answers:
        return
    size = max(SMALLEST, round(min(picture.size) * TEXT))
    margin = size // 2
    line = round(size * 1.3)
    top = picture.height - 2 * line * len(answers) - margin
    pen = ImageDraw.Draw(picture, "RGBA")
    pen.rectangle((0, top, picture.width, picture.height), fill=BAND)
    top += margin // 2
    for seen in answers:
        age = max(0.0, frame.position - seen.frame.position)
        ending = _render(f"({age:.1f} s ago)", size)
        room = picture.width - 2 * margin
        question = _render_fitting(seen.question, size, room)
        answer = _render_fitting(seen.answer.text, size, room - ending.width - size)
        picture.paste(QUESTION, (margin, top), question)
        picture.paste(ANSWER, (margin, top + line), answer)
        picture.paste(QUESTION, (margin + answer.width + size, top + line), ending)
        top += 2 * line


@lru_cache(4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@lru_cache(CACHED)
def _render(text: str, size: int) -> Image.Image:
    """``text`` as a mask; drawing it anew for each frame would take longest of all."""
    font = _font(size)
    width = max(1, math.ceil(font.getlength(text)))
    mask = Image.new("L", (width, round(size * 1.3)))
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    return mask


@lru_cache(CACHED)
def _render_fitting(text: str, size: int, room: int) -> Image.Image:
    return _render(_fit(text, _font(size), room), size)


def _fit(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """``text`` on one line, cut to what fits into ``room`` pixels."""
    line = " ".join(text.split())
    if font.getlength(line) <= room:
        return line
    fewest = 0
    most = len(line)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if font.getlength(line[:middle] + "…") <= room:
            fewest = middle
        else:
            most = middle - 1
    return line[:fewest] + "…"
