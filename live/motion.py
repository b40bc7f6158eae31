"""Scenes that move: the tags wander within their cells, and after a while another scene comes."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.live.scenes import CELL, COLOURS, TAG, answers, draw_items, ground, layout
from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.schema import brief

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.live.scenes import Layout, Tag

EDGE = 2  # pixels that a tag keeps from its cell's edges
PERIOD = 3.0  # seconds in which a tag goes to and fro
SWAY = 0.7  # of its way down, as a share of its way across: it never repeats within a scene


class MovingScenes:
    """Drawn pictures of 512x512 pixels at any moment, the same for the same ``seed``.

    Each scene lasts ``hold`` seconds. The right answers to what may be asked come with it.
    ``tag``: a colour that one of the tags has in every scene. Raises SourceError for another word.
    """

    def __init__(self, seed: int = 0, hold: float = 4.0, tag: str = "") -> None:
        if tag and tag not in COLOURS:
            raise SourceError(f"no tag is {brief(tag)}, expected one of {', '.join(COLOURS)}")
        self._seed = seed
        self._hold = hold
        self._tag = tag

    def pixels(self, position: float) -> NDArray[np.uint8]:
        """(512, 512, 3) uint8 RGB, ``position`` seconds after the beginning."""
        scene, ground = self._scene(position)
        tags = tuple(_move(tag, position) for tag in scene.tags)
        picture = ground.copy()
        draw_items(picture, dataclasses.replace(scene, tags=tags))
        return np.asarray(picture)

    def truth(self, position: float) -> dict[str, str]:
        """The right answers by their questions."""
        scene, _ = self._scene(position)
        return answers(scene)

    def _scene(self, position: float) -> tuple[Layout, Image.Image]:
        return _begin_scene(self._seed, int(position // self._hold), self._tag)


@lru_cache(maxsize=4)
def _begin_scene(seed: int, index: int, colour: str) -> tuple[Layout, Image.Image]:
    """The layout of a scene with a tag of ``colour``, and its ground, which does not move."""
    scene = layout(Random(f"{seed}/{index}"))
    if colour and colour not in [tag.name for tag in scene.tags]:
        first, *others = scene.tags
        painted = dataclasses.replace(first, name=colour)
        scene = dataclasses.replace(scene, tags=(painted, *others))
    return scene, ground(scene.ground)


def _move(tag: Tag, position: float) -> Tag:
    """``tag`` where it is at ``position`` seconds, within its cell."""
    phase = tag.cell[0] + 8 * tag.cell[1]
    turn = 2 * math.pi * position / PERIOD + phase
    spare = CELL - TAG - 2 * EDGE
    across = round(spare * (1 + math.sin(turn)) / 2)
    down = round(spare * (1 + math.sin(SWAY * turn)) / 2)
    x, y = tag.cell
    return dataclasses.replace(tag, corner=(x * CELL + EDGE + across, y * CELL + EDGE + down))
