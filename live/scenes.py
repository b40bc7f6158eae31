"""Synthetic pictures with small lettered tags, and questions about them.

A picture of 512x512 pixels is an 8x8 grid of cells; each object lies within one cell. A tag is a
coloured card whose letter is too small for a shrunk view of the whole picture and clear in a crop
of the cells around it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 512
GRID = 8
CELL = SIDE // GRID
TAG = 46
PLATE = 26
COLOURS = {
    "red": (212, 36, 40),
    "orange": (246, 134, 22),
    "yellow": (248, 220, 44),
    "green": (36, 156, 66),
    "blue": (38, 86, 214),
    "purple": (134, 52, 172),
    "black": (28, 28, 32),
    "white": (246, 246, 244),
}
SHAPES = ("ring", "star", "triangle", "cross")
LETTERS = "ACEFHKLPSTXZ"
INK = (24, 24, 28)
PAPER = (240, 238, 230)
FONT_SIZE = 22

# Each question in two forms.
FORMS = 2
LETTER = ("Which letter is on the {} tag?", "What does the {} tag say?")
QUARTER = ("Where is the {} tag?", "In which quarter is the {} tag?")
COLOUR = ("Is one of the tags {}?", "Is any tag {}?")
SHAPE = ("Is there a {}?", "Do you see a {}?")

Cell = tuple[int, int]


@dataclass(frozen=True)
class Item:
    """Something in the picture: a tag's name is its colour.

    ``cell`` is (column, row), ``corner`` in pixels.
    """

    name: str
    cell: Cell
    corner: tuple[int, int]
    size: int


@dataclass(frozen=True)
class Tag(Item):
    letter: str


@dataclass(frozen=True)
class Shape(Item):
    fill: tuple[int, int, int]


@dataclass(frozen=True)
class Layout:
    """What lies where in a picture."""

    tags: tuple[Tag, ...]
    shapes: tuple[Shape, ...]
    ground: int  # its seed


@dataclass(frozen=True)
class Sample:
    """A question with its true answer."""

    question: str
    answer: str
    perception: Literal["region", "reencode", "free"]


def layout(rng: Random) -> Layout:
    """Two to five tags of different colours, never in neighbouring cells, and shapes of two
    kinds.
    """
    cells = _choose_cells(rng)
    colours = rng.sample(list(COLOURS), len(cells))
    tags = list[Tag]()
    for colour, cell in zip(colours, cells, strict=True):
        corner = place(rng, cell, TAG)
        tags.append(Tag(colour, cell, corner, TAG, rng.choice(LETTERS)))
    free = [cell for cell in _cells(0) if cell not in cells]
    kinds = rng.sample(SHAPES, 2)
    shapes = list[Shape]()
    for cell in rng.sample(free, rng.randint(3, 7)):
        shapes.append(shape(rng, rng.choice(kinds), cell))
    return Layout(tuple(tags), tuple(shapes), rng.getrandbits(32))


def _choose_cells(rng: Random) -> list[Cell]:
    """Two to five, none of them beside another or at the picture's edge."""
    inner = _cells(1)
    rng.shuffle(inner)
    count = rng.randint(2, 5)
    cells = list[Cell]()
    for cell in inner:
        if len(cells) < count and not any(_are_neighbours(cell, other) for other in cells):
            cells.append(cell)
    return cells


def _cells(edge: int) -> list[Cell]:
    """Column by column; without so many at each ``edge``."""
    span = range(edge, GRID - edge)
    return list(itertools.product(span, span))


def _are_neighbours(one: Cell, other: Cell) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) <= 1


def place(rng: Random, cell: Cell, size: int) -> tuple[int, int]:
    """A random corner for ``size`` pixels within the cell, two pixels away from its edges."""
    spare = CELL - size - 4
    return cell[0] * CELL + 2 + rng.randint(0, spare), cell[1] * CELL + 2 + rng.randint(0, spare)


def shape(rng: Random, kind: str, cell: Cell) -> Shape:
    size = rng.randint(34, 46)
    tone = rng.choice((60, 200))
    fill = tuple(tone + rng.randint(-25, 25) for _ in range(3))
    return Shape(kind, cell, place(rng, cell, size), size, (fill[0], fill[1], fill[2]))


def draw(scene: Layout) -> Image.Image:
    """The picture of a layout, RGB 512x512."""
    picture = ground(scene.ground)
    draw_items(picture, scene)
    return picture


def draw_items(picture: Image.Image, scene: Layout) -> None:
    """What lies on the ground, into ``picture``."""
    pencil = ImageDraw.Draw(picture)
    for item in scene.shapes:
        draw_shape(pencil, item)
    for tag in scene.tags:
        draw_tag(pencil, tag)


def ground(seed: int) -> Image.Image:
    """Soft patches of muted colour under a fine grain."""
    rng = np.random.default_rng(seed)
    tone = rng.uniform(85, 155, 3) + rng.uniform(-22, 22, (5, 5, 3))
    soft = Image.fromarray(tone.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    left, top = rng.integers(0, SIDE, 2)
    return Image.fromarray(np.asarray(soft) + _grain()[top : top + SIDE, left : left + SIDE])


@functools.cache
def _grain() -> NDArray[np.uint8]:
    """Of twice a picture's side; drawn with the first picture."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 19, (2 * SIDE, 2 * SIDE, 1), np.uint8).repeat(3, axis=2)


def draw_tag(pencil: ImageDraw.ImageDraw, tag: Tag) -> None:
    """A card in its colour with a dark border, a bright plate in the middle and the letter on the
    plate.
    """
    x, y = tag.corner
    margin = (TAG - PLATE) // 2
    pencil.rounded_rectangle((x, y, x + TAG, y + TAG), 9, COLOURS[tag.name], INK, 2)
    pencil.rectangle((x + margin, y + margin, x + TAG - margin, y + TAG - margin), PAPER)
    middle = (x + TAG / 2 + 0.5, y + TAG / 2 + 0.5)
    pencil.text(middle, tag.letter, INK, _font(), anchor="mm")


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)


def draw_shape(pencil: ImageDraw.ImageDraw, item: Shape) -> None:
    x, y = item.corner
    size = item.size
    third = size // 3
    if item.name == "ring":
        pencil.ellipse((x, y, x + size, y + size), None, item.fill, 7)
    elif item.name == "triangle":
        pencil.polygon(((x, y + size), (x + size, y + size), (x + size // 2, y)), item.fill)
    elif item.name == "cross":
        pencil.rectangle((x + third, y, x + size - third, y + size), item.fill)
        pencil.rectangle((x, y + third, x + size, y + size - third), item.fill)
    else:
        angle = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2, 0.22, 0.54) * size
        points = np.stack(
            (x + size / 2 + radius * np.cos(angle), y + size / 2 + radius * np.sin(angle)), 1
        )
        pencil.polygon([(float(a), float(b)) for a, b in points], item.fill)


def ask_letter(scene: Layout, rng: Random, form: int) -> Sample:
    tag = rng.choice(scene.tags)
    return Sample(LETTER[form].format(tag.name), tag.letter, "region")


def ask_quarter(scene: Layout, rng: Random, form: int) -> Sample:
    tag = rng.choice(scene.tags)
    return Sample(QUARTER[form].format(tag.name), quarter(tag), "reencode")


def ask_colour(scene: Layout, rng: Random, form: int) -> Sample:
    colour, is_there = choose(rng, COLOURS, scene.tags)
    return Sample(COLOUR[form].format(colour), yes_or_no(is_there), "free")


def ask_shape(scene: Layout, rng: Random, form: int) -> Sample:
    kind, is_there = choose(rng, SHAPES, scene.shapes)
    return Sample(SHAPE[form].format(kind), yes_or_no(is_there), "free")


def quarter(item: Item) -> str:
    """In which quarter of the picture it lies."""
    x, y = item.cell
    row = "bottom" if y >= GRID // 2 else "top"
    column = "right" if x >= GRID // 2 else "left"
    return f"{row} {column}"


def yes_or_no(is_there: bool) -> str:
    return "yes" if is_there else "no"


def choose(rng: Random, names: Iterable[str], items: Sequence[Item]) -> tuple[str, bool]:
    """A name of something in the picture, or as often of something that is not, and which."""
    here = {item.name for item in items}
    wanted = rng.random() < 0.5
    return rng.choice([name for name in names if (name in here) == wanted]), wanted


ASK: dict[str, Callable[[Layout, Random, int], Sample]] = {
    "letter": ask_letter,
    "quarter": ask_quarter,
    "colour": ask_colour,
    "shape": ask_shape,
}


def scene(rng: Random) -> tuple[Image.Image, list[Sample]]:
    """A picture and one question of each kind."""
    plan = layout(rng)
    return draw(plan), [ask(plan, rng, rng.randrange(FORMS)) for ask in ASK.values()]


def answers(scene: Layout) -> dict[str, str]:
    """The true answers by their questions, in all forms."""
    tags = {tag.name for tag in scene.tags}
    shapes = {shape.name for shape in scene.shapes}
    true = {}
    for form in range(FORMS):
        for tag in scene.tags:
            true[LETTER[form].format(tag.name)] = tag.letter
            true[QUARTER[form].format(tag.name)] = quarter(tag)
        for colour in COLOURS:
            true[COLOUR[form].format(colour)] = yes_or_no(colour in tags)
        for kind in SHAPES:
            true[SHAPE[form].format(kind)] = yes_or_no(kind in shapes)
    return true
