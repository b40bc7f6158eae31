"""The chunks of the two pools: windows around signs, and scenes with their views."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from signs.sizes import TOKEN, VIEW, WINDOW
from signs.varied_grounds import VariedGrounds
from signs.views import REACH, place_letters, view_crop, view_first

from vpt_edge.live.scenes import GRID
from vpt_edge.live.signs.faces import faces_of
from vpt_edge.live.signs.grounds import Grounds, find_photographs
from vpt_edge.live.signs.layout import SIDES, Conditions, lay_out
from vpt_edge.live.signs.painter import Painter
from vpt_edge.live.signs.words import CHARACTERS, LONGEST, SHORTEST, draw_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vpt_edge.live.signs.sign import Part, Scene, Sign

    Cell = tuple[int, int]
    Records = NDArray[Any]

ROOM = (WINDOW[0] + TOKEN, WINDOW[1] + TOKEN)  # of a window, which lies anywhere in it
WINDOW_RECORD = np.dtype(
    [
        ("pixels", "u1", (*ROOM, 3)),
        ("centres", "f4", (LONGEST, 2)),  # x and y of each character, in pixels
        ("text", "i1", LONGEST),  # indices of CHARACTERS, then -1
    ]
)
SCENE_RECORD = np.dtype(
    [
        ("view", "u1", (VIEW, VIEW, 3)),
        ("crop", "u1", (VIEW, VIEW, 3)),  # the upper left of it, where it is smaller
        ("shown", "i2"),  # pixels a side of the crop
        ("look", "i1", 2),  # the cell that the crop is around
        ("sign", "i1"),  # the one that is looked at
    ]
)
DRAWING = 3  # goes up when the same seed draws something else
STRAY = 0.08  # share of looks one cell beside the sign, as of a model that errs
EASE = 0.3  # share of the chunks of windows in which words grow to their full length


@dataclass(frozen=True)
class Drawer:
    """Draws chunks of scenes of one part from a seed.

    ``chunks``: of how many the words grow. ``faces``: typefaces of training beside those that are
    installed with the demo.
    """

    seed: int
    part: Part = "training"
    chunks: int = 0
    faces: tuple[str, ...] = ()

    @cached_property
    def _grounds(self) -> Grounds:
        photographs = find_photographs(self.part)
        if self.part == "training":
            return VariedGrounds(photographs)
        return Grounds(photographs)

    def windows(self, chunk: int, size: int) -> Records:
        """``size`` windows, with signs of the same scene beside each other."""
        rng = Random(f"{self.seed}/{self.part}/windows/{chunk}")
        lengths = (SHORTEST, self.longest(chunk))
        conditions = Conditions(self.part, lengths, self.harshness(chunk))
        records = np.zeros(size, WINDOW_RECORD)
        filled = 0
        while filled < size:
            scene = self._vary(lay_out(rng, rng.choice(SIDES), conditions), rng)
            painter = Painter(scene, self._grounds)
            for sign in scene.signs[: size - filled]:
                _draw_window(records[filled], scene, painter, sign)
                filled += 1
        return records

    def harshness(self, chunk: int) -> float:
        """Of the scenes of a chunk of windows."""
        ease = EASE * self.chunks
        return min(chunk / ease, 1.0) if ease else 1.0

    def longest(self, chunk: int) -> int:
        """The length of the longest words in a chunk of windows."""
        ease = EASE * self.chunks
        if chunk >= ease:
            return LONGEST
        return SHORTEST + 1 + int((LONGEST - SHORTEST) * chunk / ease)

    def scenes(self, chunk: int, size: int) -> Records:
        records = np.zeros(size, SCENE_RECORD)
        for row in range(size):
            index = chunk * size + row
            scene = self.scene(index)
            painter = Painter(scene, self._grounds)
            sign, look = self.look(index, scene)
            crop = view_crop(painter, scene.side, look)
            record = records[row]
            record["view"] = view_first(painter, scene.side)
            record["crop"][: len(crop), : len(crop)] = crop
            record["shown"] = len(crop)
            record["look"] = look
            record["sign"] = sign
        return records

    def scene(self, index: int) -> Scene:
        rng = Random(f"{self.seed}/{self.part}/scenes/{index}")
        return self._vary(lay_out(rng, self.side(index), Conditions(self.part)), rng)

    def _vary(self, scene: Scene, rng: Random) -> Scene:
        """As training is shown it; the test sees scenes as they are."""
        if self.part == "training":
            faces = (*faces_of("training"), *self.faces)
            return replace(scene, signs=tuple(vary_sign(sign, faces, rng) for sign in scene.signs))
        return scene

    def side(self, index: int) -> int:
        return Random(f"{self.seed}/{self.part}/sides/{index}").choice(SIDES)

    def is_small(self, index: int) -> bool:
        """Whether the crop is smaller than a first view."""
        return self.side(index) * REACH // GRID < VIEW

    def look(self, index: int, scene: Scene) -> tuple[int, Cell]:
        """Which sign is looked at, and the cell of the look."""
        rng = Random(f"{self.seed}/{self.part}/looks/{index}")
        sign = rng.randrange(len(scene.signs))
        cell = scene.signs[sign].cell
        if rng.random() >= STRAY:
            return sign, cell
        x, y = (min(max(at + rng.randint(-1, 1), 1), GRID - 2) for at in cell)
        return sign, (x, y)


def vary_sign(sign: Sign, faces: Sequence[str], rng: Random) -> Sign:
    """The same sign in one of the ``faces``, whose letters have another shape, so that the network
    does not hold on to those that it is shown; half of the texts become codes, in which all letters
    are alike.
    """
    card = replace(sign.card, face=rng.choice(faces))
    if rng.random() < 0.5:
        card = replace(card, text=draw_code(rng, len(card.text)))
    pose = replace(
        sign.pose,
        stretch=sign.pose.stretch * rng.uniform(0.85, 1.15),
        slant=sign.pose.slant + rng.uniform(-0.15, 0.15),
        tilt=sign.pose.tilt + math.radians(rng.uniform(-2, 2)),
    )
    return replace(sign, card=card, pose=pose, cap=sign.cap * rng.uniform(0.92, 1.08))


def _draw_window(record: Any, scene: Scene, painter: Painter, sign: Sign) -> None:
    """Cut from the crop of a look at ``sign``, whose text is about in its middle."""
    crop = view_crop(painter, scene.side, sign.cell)
    centres = place_letters(sign, sign.cell, len(crop))
    x, y = centres.mean(0)
    left = _place_room(x, ROOM[1], len(crop))
    top = _place_room(y, ROOM[0], len(crop))
    record["pixels"] = crop[top : top + ROOM[0], left : left + ROOM[1]]
    record["centres"] = np.nan
    record["centres"][: len(centres)] = centres - (left, top)
    record["text"] = spell(sign.card.text)


def _place_room(middle: float, room: int, shown: int) -> int:
    return min(max(round(middle - room / 2), 0), shown - room)


def spell(text: str) -> list[int]:
    """LONGEST indices of CHARACTERS, -1 behind the text."""
    indices = [CHARACTERS.index(character) for character in text]
    return indices + [-1] * (LONGEST - len(text))
