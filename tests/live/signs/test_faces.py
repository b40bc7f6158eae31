"""Typefaces are found, have capitals of the size that was asked for, and are kept apart."""

from __future__ import annotations

import importlib.util

import pytest

from vpt_edge.live.signs import faces
from vpt_edge.live.signs.faces import FACES, FILES, PILLOW, faces_of, measure_text, open_face
from vpt_edge.live.signs.words import CHARACTERS
from vpt_edge.runtime.errors import VptError

NAMES = (*faces_of("training"), *faces_of("test"))


def test_no_family_is_of_both_parts() -> None:
    """Every file is of a part, and other weights of a typeface of the test are not of training."""
    families = {part: {FILES[name][0] for name in FACES[part] if name != PILLOW} for part in FACES}
    assert not families["training"] & families["test"]
    assert set(NAMES) == {PILLOW, *FILES}
    assert len(faces_of("training")) >= 8 and len(faces_of("test")) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_capitals_have_the_height_that_is_asked_for(name: str) -> None:
    for cap in (20, 56):
        _, top, _, bottom = open_face(name, cap).getbbox("H", anchor="ls")
        assert bottom - top == pytest.approx(cap, abs=1)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_all_characters(name: str) -> None:
    face = open_face(name, 40)
    missing = face.getmask("\uffff").getbbox(), bytes(face.getmask("\uffff"))
    shapes = set()
    for character in CHARACTERS:
        mask = face.getmask(character)
        assert (mask.getbbox(), bytes(mask)) != missing, character
        shapes.add(bytes(mask))
    assert len(shapes) == len(CHARACTERS)
    advances = measure_text(CHARACTERS, name)
    assert all(0.2 < advance < 1.7 for advance in advances)


def test_without_a_package_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    faces._load.cache_clear()
    faces.open_face.cache_clear()
    with pytest.raises(VptError) as caught:
        open_face("Lato", 20)
    expected = "the typeface Lato is not installed, font_lato is missing; "
    assert str(caught.value) == expected + "pip install 'vpt-edge[signs]'"
