"""Scenes that move, with what is true of them."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest

from vpt_edge.live.motion import MovingScenes
from vpt_edge.live.scenes import ASK, CELL, FORMS, SIDE, TAG, answers, draw, layout
from vpt_edge.runtime.errors import SourceError


def test_a_scene_is_the_same_for_the_same_seed() -> None:
    for position in (0.0, 1.3, 9.7):
        first = MovingScenes(3).pixels(position)
        assert np.array_equal(first, MovingScenes(3).pixels(position))
        assert not np.array_equal(first, MovingScenes(4).pixels(position))


def test_the_tags_move_and_the_truth_stays() -> None:
    scenes = MovingScenes(seed=5, hold=4.0)
    frames = [scenes.pixels(index / 10) for index in range(40)]
    for before, now in itertools.pairwise(frames):
        assert now.shape == (SIDE, SIDE, 3) and now.dtype == np.uint8
        moved = np.mean(before != now)
        assert 0 < moved < 0.1, "the tags move, the ground does not"
    assert len({str(scenes.truth(index / 10)) for index in range(40)}) == 1


def test_another_scene_comes() -> None:
    scenes = MovingScenes(seed=5, hold=4.0)
    assert scenes.truth(3.9) != scenes.truth(4.1)
    assert np.mean(scenes.pixels(3.9) != scenes.pixels(4.1)) > 0.5


def test_a_tag_of_a_colour_is_always_there() -> None:
    scenes = MovingScenes(seed=2, hold=1.0, tag="red")
    questions = {tuple(scenes.truth(index + 0.5)) for index in range(30)}
    assert all("Where is the red tag?" in asked for asked in questions)
    others = [MovingScenes(seed=2, hold=1.0).truth(index + 0.5) for index in range(30)]
    assert not all("Where is the red tag?" in asked for asked in others)
    with pytest.raises(SourceError, match="'pink', expected one of red"):
        MovingScenes(tag="pink")


def test_a_tag_stays_in_its_cell() -> None:
    """Its card of a dark border lies wholly between the cell's edges."""
    scenes = MovingScenes(seed=1, hold=1000.0)
    plan = layout(Random("1/0"))
    still = np.asarray(draw(plan)).astype(int)
    for position in np.arange(0, 20, 0.31):
        changed = np.abs(scenes.pixels(float(position)).astype(int) - still).max(2) > 0
        for tag in plan.tags:
            x, y = tag.cell
            changed[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] = False
        assert not changed.any()


def test_the_truth_is_that_of_every_question() -> None:
    rng = Random(11)
    for _ in range(20):
        plan = layout(rng)
        true = answers(plan)
        for ask in ASK.values():
            for form in range(FORMS):
                sample = ask(plan, rng, form)
                assert true[sample.question] == sample.answer


def test_the_cell_has_room_for_a_tag() -> None:
    assert TAG + 4 < CELL
