"""Pictures of scenes show what the truth says, where it says it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from vpt_edge.live.signs.faces import faces_of
from vpt_edge.live.signs.geometry import box_of, glyph_lines
from vpt_edge.live.signs.grounds import Grounds
from vpt_edge.live.signs.layout import Conditions, lay_out
from vpt_edge.live.signs.painter import Painter
from vpt_edge.live.signs.sign import Card, Pose, Scene, Sign


@pytest.fixture(name="grounds")
def fixture_grounds(tmp_path: Path) -> Grounds:
    pixels = np.random.default_rng(1).integers(90, 170, (24, 32, 3), np.uint8)
    path = tmp_path / "ground.png"
    Image.fromarray(pixels).save(path)
    return Grounds([path])


def scene(seed: int, side: int = 640) -> Scene:
    return lay_out(Random(seed), side, Conditions())


def picture(scene: Scene, grounds: Grounds) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Painter(scene, grounds).picture())


def test_a_scene_is_always_the_same_picture(grounds: Grounds) -> None:
    first = picture(scene(3), grounds)
    assert first.shape == (640, 640, 3) and first.dtype == np.uint8
    assert np.array_equal(first, picture(scene(3), grounds))
    assert not np.array_equal(first, picture(scene(4), grounds))


def test_some_rows_and_columns_are_those_of_the_picture(grounds: Grounds) -> None:
    rng = np.random.default_rng(0)
    for seed in range(4):
        whole = picture(scene(seed), grounds)
        rows = np.sort(rng.choice(640, 100, replace=False))
        columns = np.arange(200, 480)
        part = Painter(scene(seed), grounds).pixels(rows, columns)
        assert np.array_equal(part, whole[rows[:, None], columns])


@pytest.mark.parametrize(("side", "count"), [(512, 6), (896, 3), (2048, 1)])
def test_the_box_holds_the_sign(grounds: Grounds, side: int, count: int) -> None:
    """Without the sign the picture differs in the box and, but for a pole, there alone."""
    for seed in range(count):
        bare = scene(seed, side)
        for sign in bare.signs:
            others = tuple(other for other in bare.signs if other is not sign)
            without = dataclasses.replace(bare, signs=others)
            changed = picture(bare, grounds) != picture(without, grounds)
            rows = np.flatnonzero(changed.any((1, 2)))
            columns = np.flatnonzero(changed.any((0, 2)))
            left, top, right, bottom = box_of(sign, side)
            soft = 3 + side / 200 + 3 * sign.blur * sign.cap * side / 8
            assert columns[0] == pytest.approx(left, abs=soft)
            assert columns[-1] == pytest.approx(right, abs=soft)
            assert rows[0] == pytest.approx(top, abs=soft)
            if sign.card.kind != "sign":
                assert rows[-1] == pytest.approx(bottom, abs=soft)


def test_letters_stand_where_the_truth_has_them(grounds: Grounds) -> None:
    """Of an H the middle is dark, and what is above it is not."""
    pose = Pose((4.0, 4.0), left=1.04, right=0.97, tilt=0.1, slant=0.1)
    for part in ("training", "test"):
        for face in faces_of(part):
            sign = Sign(Card("label", "white", (0, 0, 0), "HHHHHHH", face, False), pose, 0.23)
            shown = dataclasses.replace(scene(1, 1024), signs=(sign,), distractors=())
            brightness = picture(shown, grounds).astype(int).sum(2)
            dark = brightness < brightness.max() / 2
            for upper, lower in glyph_lines(sign) * 1024 / 8:
                x, y = ((upper + lower) / 2).astype(int)
                assert dark[y - 4 : y + 5, x].any(), face
                assert not dark[int(upper[1]) - 5, x - 4 : x + 4].any(), face


def test_a_blurred_sign_is_softer(grounds: Grounds) -> None:
    bare = scene(2, 1024)
    plain = dataclasses.replace(bare, light=dataclasses.replace(bare.light, noise=0.0))
    left, top, right, bottom = box_of(plain.signs[0], 1024)
    edges = []
    for blur in (0.0, 0.1):
        sign = dataclasses.replace(plain.signs[0], blur=blur)
        pixels = picture(dataclasses.replace(plain, signs=(sign,)), grounds).astype(int)
        edges.append(np.abs(np.diff(pixels[top:bottom, left:right], axis=1)).max())
    assert edges[1] < 0.8 * edges[0]
