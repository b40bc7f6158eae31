"""A camera that pans over signs, which come and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from feeds import wait_for
from PIL import Image

from vpt_edge import live
from vpt_edge.live.signs.geometry import box_of
from vpt_edge.live.signs.moving import MovingSigns
from vpt_edge.runtime.errors import SourceError, VptError


def test_a_seed_is_a_film() -> None:
    for position in (0.0, 1.3, 9.7):
        first = MovingSigns(3, side=512).pixels(position)
        assert first.shape == (512, 512, 3) and first.dtype == np.uint8
        assert np.array_equal(first, MovingSigns(3, side=512).pixels(position))
        assert not np.array_equal(first, MovingSigns(4, side=512).pixels(position))


def test_the_camera_pans() -> None:
    signs = MovingSigns(seed=5, hold=100.0)
    centres = np.array([signs.scene(index / 10).signs[0].pose.centre for index in range(90)])
    assert (np.ptp(centres, axis=0) > 0.5).all()
    steps = np.abs(np.diff(centres, axis=0))
    assert 0 < steps.max() < 0.05, "smoothly"


def test_signs_come_and_go_and_the_truth_with_them() -> None:
    signs = MovingSigns(seed=6, hold=6.0)
    present = list[int]()
    for index in range(600):
        scene = signs.scene(index / 10)
        present.append(len(scene.signs))
        truth = signs.truth(index / 10)
        for sign in scene.signs:
            name = f"{sign.card.colour} {sign.card.kind}"
            assert truth[f"What does the {name} say?"] == sign.card.text
        texts = {sign.card.text for sign in scene.signs}
        said = {answer for question, answer in truth.items() if question.startswith("What does")}
        assert said == texts
    changes = np.diff(np.reshape(present, (-1, 60)), axis=1)
    assert (changes > 0).any() and (changes < 0).any(), "within one of the scenes"
    assert min(present) >= 1


def test_a_sign_stays_where_a_look_finds_it() -> None:
    for seed in range(4):
        signs = MovingSigns(seed, side=768)
        for position in np.arange(0, 40, 0.7):
            for sign in signs.scene(float(position)).signs:
                left, top, right, bottom = box_of(sign, 768)
                assert min(left, top) >= 0 and max(right, bottom) <= 768
                assert all(1 <= index <= 6 for index in sign.cell)


def test_a_colour_is_always_there() -> None:
    signs = MovingSigns(seed=2, hold=1.0, tag="red")
    for position in np.arange(0, 20, 0.3):
        assert "red" in [sign.card.colour for sign in signs.scene(float(position)).signs]


def test_signs_are_a_source() -> None:
    source = live.open("scenes://signs?seed=3&rate=20&side=512&tag=blue")
    wait_for(source, lambda: source.counts.frames > 0)
    frame = source.poll()
    assert frame is not None and frame.pixels.shape == (512, 512, 3)
    assert any("blue" in question for question in frame.truth)
    source.close()


def test_signs_stand_in_pictures_of_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (640, 640), (0, 200, 0)).save(tmp_path / "green.png")
    pixels = MovingSigns(1, side=512, grounds=str(tmp_path)).pixels(0.0).astype(int)
    assert np.mean(pixels[..., 1] - pixels[..., 0] > 30) > 0.5
    (tmp_path / "green.png").unlink()
    with pytest.raises(VptError, match="holds no pictures"):
        MovingSigns(1, side=512, grounds=str(tmp_path))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("scenes://signs?tag=pink", "no sign is 'pink', expected one of red"),
        ("scenes://signs?side=100", "side is 100, expected 512 to 2048 pixels"),
        ("scenes://signs?size=3", "does not take size in its address, it takes seed, hold"),
        ("scenes://signs?hold=0", "hold is 0"),
        ("scenes://signs?grounds=/nowhere", "no folder at /nowhere"),
        ("scenes://?side=512", "does not take side"),
        ("scenes://words?seed=1", "are called 'words', expected scenes:// or scenes://signs"),
        ("scenes://me:secret@signs?seed=1", "takes no user and password"),
    ],
)
def test_what_cannot_be_drawn_is_said(address: str, problem: str) -> None:
    with pytest.raises(VptError, match=problem):
        live.open(address)


@pytest.mark.parametrize("address", ["scenes://seed=3&rate=50", "scenes:///?seed=3", "scenes://"])
def test_the_older_scenes_are_addressed_as_before(address: str) -> None:
    with live.open(address) as source:
        assert source.name == "scenes://"


def test_a_side_that_is_not_a_number_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="side of scenes:// is wide"):
        live.open("scenes://signs?side=wide")
