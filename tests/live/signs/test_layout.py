"""Scenes are the same for the same seed, and can be read with a look and not without."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vpt_edge.live.signs.geometry import box_of, glyph_lines
from vpt_edge.live.signs.layout import SIDES, Conditions, lay_out
from vpt_edge.live.signs.questions import single_signs
from vpt_edge.runtime.perception.vpt import crop_box

if TYPE_CHECKING:
    from vpt_edge.live.signs.sign import Scene, Sign

FIRST_VIEW = 224  # pixels a side, as of the crop's view
ILLEGIBLE = 7.0  # pixels of a capital
LEGIBLE = 14.0


def scenes(count: int, **conditions: object) -> list[Scene]:
    rng = Random(5)
    chosen = Conditions(**conditions)  # type: ignore[arg-type]
    return [lay_out(rng, SIDES[index % len(SIDES)], chosen) for index in range(count)]


def look(sign: Sign, side: int) -> tuple[int, int, int, int]:
    """The crop of a look at the sign's cell."""
    x, y = sign.cell
    return crop_box((x, y, x, y), (side, side))


def test_a_seed_is_a_scene() -> None:
    conditions = Conditions()
    assert lay_out(Random(3), 512, conditions) == lay_out(Random(3), 512, conditions)
    assert lay_out(Random(3), 512, conditions) != lay_out(Random(4), 512, conditions)


def test_capitals_are_too_small_in_the_first_view_and_large_in_the_crop() -> None:
    for scene in scenes(300):
        for sign in scene.signs:
            lines = glyph_lines(sign)
            heights = np.hypot(*(lines[:, 1] - lines[:, 0]).T) * scene.side / 8
            assert heights.max() * FIRST_VIEW / scene.side < ILLEGIBLE
            left, _, right, _ = look(sign, scene.side)
            shown = min(round((right - left) / 28) * 28, FIRST_VIEW)
            assert heights.min() * shown / (right - left) >= LEGIBLE


def test_a_look_at_the_cell_shows_the_whole_sign() -> None:
    for scene in scenes(300):
        for sign in scene.signs:
            left, top, right, bottom = box_of(sign, scene.side)
            assert min(left, top) >= 0 and max(right, bottom) <= scene.side
            crop = look(sign, scene.side)
            assert crop[0] <= left and crop[1] <= top, sign
            assert right <= crop[2] and bottom <= crop[3], sign


def test_a_look_shows_no_other_sign_whole() -> None:
    for scene in scenes(200):
        for sign in scene.signs:
            crop = look(sign, scene.side)
            for other in scene.signs:
                left, top, right, bottom = box_of(other, scene.side)
                across = crop[0] <= left and right <= crop[2]
                down = crop[1] <= top and bottom <= crop[3]
                assert other is sign or not (across and down)


def test_colours_differ_and_something_is_alone_of_its_kind() -> None:
    for scene in scenes(200):
        colours = [sign.card.colour for sign in scene.signs]
        assert 2 <= len(colours) <= 5
        assert len(set(colours)) == len(colours)
        assert scene.signs[0] in single_signs(scene)


def test_conditions_are_kept() -> None:
    for scene in scenes(100, lengths=(3, 4), colour="red", harshness=0.0):
        assert "red" in [sign.card.colour for sign in scene.signs]
        assert scene.light.noise == 0
        for sign in scene.signs:
            assert 3 <= len(sign.card.text) <= 4
            assert sign.blur == 0 and sign.pose.tilt == 0 and sign.pose.left == 1


@pytest.mark.parametrize("part", ["training", "test"])
def test_texts_of_every_length_come_as_often(part: str) -> None:
    counts = dict.fromkeys(range(3, 8), 0)
    for scene in scenes(300, part=part):
        for sign in scene.signs:
            counts[len(sign.card.text)] += 1
    assert min(counts.values()) > 0.7 * max(counts.values())
