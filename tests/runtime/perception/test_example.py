"""The call that is given for a measurement: the way's own rules read it as the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from descriptions import way_of

from vpt_edge.runtime.perception.actions import Crop, Whole
from vpt_edge.runtime.perception.views import View
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest

VIEW = View(0, (0, 0, 640, 480), (640, 480), (320, 256))
BOX: dict[str, Any] = {
    "tools": [],
    "opening.system": None,
    "call.form": "box",
    "call.name": None,
    "look.box.argument": None,
    "look.picture": {
        "by": "first",
        "argument": None,
        "base": 0,
        "original": None,
        "crop": None,
        "missing": "refuse",
    },
}
NAMED = {
    "call.form": "arguments",
    "call.name": None,
    "look.picture.by": "name",
    "look.picture.argument": "label",
    "look.picture.original": "original",
    "look.picture.crop": "crop_",
    "look.picture.missing": "refuse",
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_bundle(tmp_path_factory.mktemp("bundle")).manifest


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"look.picture.base": 1, "look.picture.missing": "refuse"},
        {"turn.thoughts.prompted": True},
        {"look.box.coordinates": "pixels_original", "look.box.outside": "refuse"},
        {"look.box.coordinates": "unit", "look.box.outside": "refuse"},
        {"look.box.coordinates": "unit_or_pixels_shown"},
        {"look.box.coordinates": "unit_or_pixels_original"},
        NAMED,
        BOX,
        {**BOX, "call.opening": "", "call.closing": "", "look.box.coordinates": "pixels_original"},
    ],
)
def test_its_box_is_the_middle_by_every_rule(changes: dict[str, Any], manifest: Manifest) -> None:
    way = way_of(manifest, changes)
    said = way.turn_prefix + way.example_look(VIEW)
    (action,) = way.read(said, [VIEW], 0).actions
    assert isinstance(action, Crop)
    assert (action.box, action.source) == ((200, 120, 440, 360), 0)


def test_pixels_are_those_of_the_shown_picture(manifest: Manifest) -> None:
    way = way_of(manifest, {"look.box.coordinates": "pixels_shown"})
    assert "[100, 64, 220, 192]" in way.example_look(VIEW)


def test_the_original_is_asked_for_without_a_box(manifest: Manifest) -> None:
    way = way_of(manifest, {"look.picture": None, "look.box": None, "look.resize": None})
    assert way.read(way.example_look(VIEW), [VIEW], 0).actions == (Whole(0),)


def test_a_picture_of_one_pixel_has_a_middle(manifest: Manifest) -> None:
    view = View(0, (0, 0, 1, 1), (1, 1), (28, 28))
    (action,) = (
        way_of(manifest, {}).read(way_of(manifest, {}).example_look(view), [view], 0).actions
    )
    assert isinstance(action, Crop)
    assert action.box == (0, 0, 1, 1)
