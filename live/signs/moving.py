"""A camera that pans over signs, which come and go; after a while it looks elsewhere."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.live.scenes import COLOURS
from vpt_edge.live.signs.grounds import Grounds, find_photographs, find_pictures
from vpt_edge.live.signs.layout import SIDES, Conditions, lay_out, show_at
from vpt_edge.live.signs.painter import Painter
from vpt_edge.live.signs.questions import answers
from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.schema import brief

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.live.signs.sign import Point, Scene, Sign

REACH = 0.33  # cells that the camera pans to either side
PERIOD = 9.0  # seconds in which it pans to and fro
SWAY = 0.6  # of its way down, as a share of its way across
GRAINS = 1000  # pictures a second that differ by their noise


class MovingSigns:
    """Drawn pictures of ``side`` pixels at any moment, the same for the same ``seed``.

    Each scene lasts ``hold`` seconds, in which signs but the first come or go. The right answers to
    what may be asked come with it. ``tag``: every scene has a "sign" of that colour, all the time.
    ``grounds``: a folder of pictures to stand them in; without it, photographs and typefaces are
    those that the demo's training has never seen.

    Raises SourceError for another colour or side, and VptError for pictures or fonts that are not
    there.
    """

    def __init__(
        self, seed: int = 0, hold: float = 6.0, tag: str = "", side: int = 1024, grounds: str = ""
    ) -> None:
        if tag and tag not in COLOURS:
            raise SourceError(f"no sign is {brief(tag)}, expected one of {', '.join(COLOURS)}")
        if not SIDES[0] <= side <= SIDES[-1]:
            expected = f"expected {SIDES[0]} to {SIDES[-1]} pixels"
            raise SourceError(f"side is {side}, {expected}")
        paths = find_photographs("test")
        if grounds:
            paths = find_pictures(Path(grounds))
        self._hold = hold
        self._side = side
        self._grounds = Grounds(paths)
        self._scene = lru_cache(maxsize=2)(lambda index: _begin_scene(f"{seed}/{index}", side, tag))

    def pixels(self, position: float) -> NDArray[np.uint8]:
        """(side, side, 3) uint8 RGB, ``position`` seconds after the beginning."""
        every = np.arange(self._side)
        return Painter(self.scene(position), self._grounds).pixels(every, every)

    def truth(self, position: float) -> dict[str, str]:
        """The right answers by their questions."""
        return answers(self.scene(position))

    def scene(self, position: float) -> Scene:
        """What is to be seen at ``position`` seconds."""
        index, since = divmod(position, self._hold)
        scene = self._scene(int(index))
        signs = _choose_present(scene, since / self._hold)
        grain = round(position * GRAINS) * 7919 % 2**24
        return show_at(scene, signs, _pan(position), grain)


def _begin_scene(seed: str, side: int, colour: str) -> Scene:
    return lay_out(Random(seed), side, Conditions(reach=REACH, colour=colour))


def _choose_present(scene: Scene, part: float) -> list[Sign]:
    """The signs that are there when ``part`` of the scene's time is over.

    Of those behind the first every other one comes, and the others go, each at its moment.
    """
    first, *others = scene.signs
    present = [first]
    for number, sign in enumerate(others):
        moment = Random(sign.card.text).uniform(0.2, 0.8)
        comes = number % 2 == 0
        if (part >= moment) == comes:
            present.append(sign)
    return present


def _pan(position: float) -> Point:
    """By how many cells everything stands farther right and down."""
    turn = 2 * math.pi * position / PERIOD
    return REACH * math.sin(turn), REACH * math.sin(SWAY * turn)
