"""What a scene is made of. Lengths are in cells, of which a picture has eight a side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["training", "test"]
Kind = Literal["sign", "plate", "label", "tag"]
Shape = Literal["disc", "triangle", "blank", "stripes"]
Point = tuple[float, float]  # x and y
Colour = tuple[int, int, int]

KINDS: tuple[Kind, ...] = ("sign", "plate", "label", "tag")
SHAPES: tuple[Shape, ...] = ("disc", "triangle", "blank", "stripes")


@dataclass(frozen=True)
class Card:
    """What stands on something that is read, and in which make.

    ``colour``: its name; ``tint``: what is added to it, RGB. ``face``: the name of a typeface.
    ``panel``: whether the text stands on a white field within the colour.
    """

    kind: Kind
    colour: str
    tint: Colour
    text: str
    face: str
    panel: bool


@dataclass(frozen=True)
class Pose:
    """How something flat stands in the picture.

    ``centre``: where its middle is. ``left``, ``right``: by how much its two edges are higher than
    when it is seen straight on; ``stretch``: by how much it is wider. ``tilt``: by how much it is
    turned, radians, clockwise. ``slant``: how far what is one lower stands to the right.
    """

    centre: Point
    left: float = 1.0
    right: float = 1.0
    stretch: float = 1.0
    tilt: float = 0.0
    slant: float = 0.0


@dataclass(frozen=True)
class Sign:
    """Something that is read. ``cap``: how high its capitals are; ``blur``: the deviation of a
    Gaussian, of ``cap``; ``shade``: how bright it is.
    """

    card: Card
    pose: Pose
    cap: float
    blur: float = 0.0
    shade: float = 1.0

    @property
    def cell(self) -> tuple[int, int]:
        """Column and row of the cell that its middle lies in."""
        x, y = self.pose.centre
        return int(x), int(y)


@dataclass(frozen=True)
class Distractor:
    """Something in the colour of a sign that nobody can read."""

    shape: Shape
    fill: Colour
    size: Point  # width and height
    pose: Pose


@dataclass(frozen=True)
class Backdrop:
    """The part of a photograph that a scene stands in.

    ``photograph``: which, counted round. ``offset``: which part of it, 0..1 across and down;
    ``mirrored``: whether left is right.
    """

    photograph: int
    offset: Point
    mirrored: bool


@dataclass(frozen=True)
class Light:
    """``gain``: how bright each channel is in the middle; ``slope``: by which part of it that grows
    from left to right and from top to bottom. ``noise``: deviation, of 255; ``grain``: which noise.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    slope: Point = (0.0, 0.0)
    noise: float = 0.0
    grain: int = 0


@dataclass(frozen=True)
class Scene:
    """A square picture of ``side`` pixels, and what is in it; what comes later lies in front."""

    side: int
    backdrop: Backdrop
    light: Light
    distractors: tuple[Distractor, ...]
    signs: tuple[Sign, ...]
    shift: Point = (0.0, 0.0)  # of the photograph, to the right and down
