"""What lies where in a scene, drawn by lot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from vpt_edge.live.scenes import COLOURS, GRID
from vpt_edge.live.signs.faces import faces_of
from vpt_edge.live.signs.geometry import WIDEST
from vpt_edge.live.signs.sign import (
    KINDS,
    SHAPES,
    Backdrop,
    Card,
    Distractor,
    Light,
    Point,
    Pose,
    Scene,
    Sign,
)
from vpt_edge.live.signs.words import LONGEST, SHORTEST, draw_code, draw_price, draw_word

if TYPE_CHECKING:
    from vpt_edge.live.signs.sign import Kind, Part

SIDES = (512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048)
# Of capitals, in cells. A first view of 224 pixels shows a cell with 28, and a crop of three by
# three with 65 at least: capitals are 6.0 to 6.9 pixels there, and 14.0 to 18.4 here.
CAPS = (0.2255, 0.236)
FORESHORTENING = 0.042  # at most, of the edge that is nearer or farther
EDGE = 1.06  # cells that a sign's middle keeps from the picture's edge
APART = (3.0, 2.0)  # cells between the middles of two signs, across or down
TRIES = 40
NAMED: Kind = "sign"  # of which a scene has one of the colour that is asked for
WORD_SHARE: dict[Kind, float] = {"sign": 0.75, "plate": 0.0, "label": 0.5, "tag": 0.25}
PRICE_SHARE: dict[Kind, float] = {"sign": 0.0, "plate": 0.0, "label": 0.1, "tag": 0.6}


@dataclass(frozen=True)
class Conditions:
    """How hard scenes are.

    ``part``: whether typefaces are those of training or those kept for the test. ``lengths``: of
    texts. ``harshness``: 0..1, by which perspective, blur, noise and light grow. ``reach``: cells
    that signs may move to every side and still be looked at. ``colour``: of the first of each
    scene, which is a "sign" then.
    """

    part: Part = "test"
    lengths: tuple[int, int] = (SHORTEST, LONGEST)
    harshness: float = 1.0
    reach: float = 0.0
    colour: str = ""


def lay_out(rng: Random, side: int, conditions: Conditions) -> Scene:
    """A scene of two to five signs of different colours and one to four distractors.

    The middle of each sign lies in one of the inner cells, and a look at it shows no other whole.
    """
    places = _choose_places(rng, rng.randint(2, 5), conditions.reach)
    colours = rng.sample(list(COLOURS), len(places))
    if conditions.colour:
        others = [colour for colour in colours if colour != conditions.colour]
        colours = [conditions.colour, *others][: len(places)]
    signs = list[Sign]()
    kinds = _choose_kinds(rng, len(places), conditions)
    for colour, kind, middle in zip(colours, kinds, places, strict=True):
        pose = draw_pose(rng, middle, conditions.harshness)
        signs.append(draw_sign(rng, colour, kind, pose, conditions))
    backdrop = Backdrop(rng.getrandbits(16), (rng.random(), rng.random()), rng.random() < 0.5)
    light = draw_light(rng, conditions.harshness)
    return Scene(side, backdrop, light, _choose_distractors(rng, places), tuple(signs))


def _choose_places(rng: Random, count: int, reach: float) -> list[Point]:
    """Two to ``count`` middles of signs, far enough from each other."""
    nearest = EDGE + reach
    places = list[Point]()
    tries = 0
    while len(places) < 2 or (len(places) < count and tries < TRIES):
        tries += 1
        place = (rng.uniform(nearest, GRID - nearest), rng.uniform(nearest, GRID - nearest))
        if not any(_is_near(place, other) for other in places):
            places.append(place)
    return places


def _is_near(one: Point, other: Point) -> bool:
    return abs(one[0] - other[0]) < APART[0] and abs(one[1] - other[1]) < APART[1]


def _choose_kinds(rng: Random, count: int, conditions: Conditions) -> list[Kind]:
    """The first of them once alone, so that it may be asked about by its kind."""
    kinds = rng.sample(KINDS, len(KINDS))
    if conditions.colour:
        kinds.remove(NAMED)
        kinds.insert(0, NAMED)
    first, *others = kinds
    return [first, *rng.choices(others, k=count - 1)]


def draw_sign(rng: Random, colour: str, kind: Kind, pose: Pose, conditions: Conditions) -> Sign:
    harshness = conditions.harshness
    tint = [round(rng.uniform(-14, 14) * harshness) for _ in range(3)]
    text = draw_text(rng, kind, rng.randint(*conditions.lengths))
    face = rng.choice(faces_of(conditions.part))
    panel = rng.random() < 0.2
    card = Card(kind, colour, (tint[0], tint[1], tint[2]), text, face, panel)
    blur = harshness * rng.choice((0.0, rng.uniform(0.0, 0.075)))
    shade = 1 + harshness * rng.uniform(-0.12, 0.08)
    return Sign(card, pose, rng.uniform(*CAPS), blur, shade)


def draw_text(rng: Random, kind: Kind, length: int) -> str:
    lot = rng.random() - WORD_SHARE[kind]
    if lot < 0:
        return draw_word(rng, length)
    if lot < PRICE_SHARE[kind]:
        return draw_price(rng, length)
    return draw_code(rng, length)


def draw_pose(rng: Random, middle: Point, harshness: float) -> Pose:
    """Seen from a side: one edge is higher than the other, and both are nearer together."""
    turn = harshness * rng.uniform(-1, 1)
    return Pose(
        middle,
        left=1 + FORESHORTENING * turn,
        right=1 - FORESHORTENING * turn,
        stretch=1 - 0.14 * abs(turn) - harshness * rng.uniform(0, 0.06),
        tilt=harshness * math.radians(rng.uniform(-7, 7)),
        slant=harshness * rng.uniform(-0.12, 0.12),
    )


def draw_light(rng: Random, harshness: float) -> Light:
    """Bright or dim, from a side, warm or cold; and a camera's noise."""
    bright = 1 + harshness * rng.uniform(-0.3, 0.15)
    warm = harshness * rng.uniform(-0.06, 0.06)
    slope = (harshness * rng.uniform(-0.35, 0.35), harshness * rng.uniform(-0.35, 0.35))
    gain = (bright * (1 + warm), bright, bright * (1 - warm))
    return Light(gain, slope, harshness * rng.uniform(0, 9), rng.getrandbits(24))


def _choose_distractors(rng: Random, signs: Sequence[Point]) -> tuple[Distractor, ...]:
    """One to four, none of which touches a sign."""
    count = rng.randint(1, 4)
    distractors = list[Distractor]()
    for _ in range(count):
        size = (rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.6))
        middle = (rng.uniform(0.5, GRID - 0.5), rng.uniform(0.5, GRID - 0.5))
        pose = Pose(middle, tilt=rng.uniform(-0.5, 0.5))
        shape = rng.choice(SHAPES)
        fill = rng.choice(list(COLOURS.values()))
        if not any(_touches(middle, size, sign) for sign in signs):
            distractors.append(Distractor(shape, fill, size, pose))
    return tuple(distractors)


def _touches(middle: Point, size: Point, sign: Point) -> bool:
    """Whether it may, however both are turned."""
    reach = math.hypot(*size) / 2
    is_beside = abs(middle[0] - sign[0]) > WIDEST / 2 + 0.1 + reach
    is_above = abs(middle[1] - sign[1]) > 0.45 + reach
    return not (is_beside or is_above)


def show_at(scene: Scene, signs: Sequence[Sign], shift: Point, grain: int) -> Scene:
    """``scene`` with those ``signs``, moved by ``shift`` cells, and another noise."""
    moved = list[Sign]()
    for sign in signs:
        moved.append(dataclasses.replace(sign, pose=_shift(sign.pose, shift)))
    distractors = list[Distractor]()
    for each in scene.distractors:
        distractors.append(dataclasses.replace(each, pose=_shift(each.pose, shift)))
    light = dataclasses.replace(scene.light, grain=grain)
    return dataclasses.replace(
        scene, signs=tuple(moved), distractors=tuple(distractors), shift=shift, light=light
    )


def _shift(pose: Pose, shift: Point) -> Pose:
    x, y = pose.centre
    return dataclasses.replace(pose, centre=(x + shift[0], y + shift[1]))
