"""What a request gives: looks in words and as JSON, and an answer that is saved whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from scripted import (
    CLIP,
    OTHER,
    OTHER_ACTION,
    PICTURE,
    PICTURE_TOKENS,
    REGION,
    REGION_ACTION,
    Tiny,
    answer_of,
)

from vpt_edge.runtime import Answer, Crop, Looked, Pipeline, Reencode, VptError, overlay
from vpt_edge.runtime.overlay import Region
from vpt_edge.runtime.perception.actions import Whole
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_an_answer_is_json(tiny: Tiny) -> None:
    answer = answer_of(Script(REGION, "Yes."), tiny())
    data = answer.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert {key: type(value) for key, value in data.items()} == {
        "text": str,
        "raw": str,
        "thoughts": type(None),
        "finish_reason": str,
        "stop_sequence": type(None),
        "turns": list,
        "looks": list,
        "usage": dict,
        "seconds": dict,
        "first_token_seconds": list,
    }
    tokens = answer.looks[0].tokens
    place = {"cells": [1, 2, 3, 2], "box": [0, 8, 60, 32], "picture": 0, "source": 0}
    assert data["looks"] == [{"kind": "region", **place, "tokens": tokens}]
    assert set(data["turns"][0]) == {"prompt_ids", "generated_ids", "text"}
    assert set(data["usage"]) == {
        "prompt_tokens",
        "generated_tokens",
        "computed_tokens",
        "reused_tokens",
        "draft_tokens",
        "accepted_tokens",
        "vision_runs",
        "reencoder_runs",
        "dropped_tokens",
    }
    looks = answer_of(Script(CLIP, "Yes."), tiny()).to_dict()["looks"]
    place = {"cells": None, "box": None, "picture": 0, "source": None}
    assert looks == [{"kind": "clip", **place, "tokens": PICTURE_TOKENS}]


def test_an_answer_is_saved_into_a_new_folder(tiny: Tiny, tmp_path: Path) -> None:
    answer = answer_of(Script(REGION + OTHER, "Yes."), tiny())
    folder = tmp_path / "deep" / "answer"
    answer.save(folder)
    assert {path.name for path in folder.iterdir()} == {
        "answer.json",
        "overlay.png",
        "crop_0.png",
        "crop_1.png",
    }
    assert json.loads((folder / "answer.json").read_text("utf-8")) == answer.to_dict()
    for index, look in enumerate(answer.looks):
        assert look.crop is not None
        assert Image.open(folder / f"crop_{index}.png").tobytes() == look.crop.tobytes()
    with pytest.raises(VptError, match="exists already"):
        answer.save(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["answer"]


def test_a_failed_save_leaves_nothing(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = answer_of(Script("Yes."), tiny())

    def fail(self: Answer) -> Image.Image:
        raise OSError("the disk is full")

    monkeypatch.setattr(Answer, "plot", fail)
    with pytest.raises(OSError, match="full"):
        answer.save(tmp_path / "answer")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["CMYK", "F", "I;16", "LAB", "RGBA", "P", "1"])
def test_crops_of_any_mode_are_saved_as_they_are_shown(
    mode: str, tiny: Tiny, tmp_path: Path
) -> None:
    with Pipeline(tiny(), opener=Script(REGION, "Yes.")) as pipeline:
        answer = pipeline.ask(Image.new(mode, (96, 64)), "What?")
    answer.save(tmp_path / "answer")
    crop = answer.looks[0].crop
    assert crop is not None and crop.mode == mode
    with Image.open(tmp_path / "answer" / "crop_0.png") as saved:
        assert (saved.mode, saved.tobytes()) == ("RGB", crop.convert("RGB").tobytes())


def test_a_crop_without_pixels_is_seen_and_saved(tiny: Tiny, tmp_path: Path) -> None:
    """Of a picture below 8 pixels a region may be empty; the authors' code stretches it to
    28x28.
    """
    corner = "<|region_token_start|><|x_0|><|y_0|><|x_0|><|region_token_end|>"
    with Pipeline(tiny(), opener=Script(corner, "Yes.")) as pipeline:
        answer = pipeline.ask(Image.new("RGB", (3, 2)), "What?")
    assert (answer.text, answer.looks[0].box) == ("Yes.", (0, 0, 0, 0))
    answer.save(tmp_path / "answer")


def test_a_look_says_what_it_is() -> None:
    region = Looked(Crop((5, 2, 6, 3), (10, 20, 220, 210)), 12, Image.new("RGB", (210, 190)))
    assert (region.kind, region.cells, region.box) == (
        "region",
        (5, 2, 6, 3),
        (10, 20, 220, 210),
    )
    assert region.describe() == "looked again at cells (5,2)-(6,3), 210x190 px"
    pixels = Looked(Crop(None, (10, 20, 220, 210)), 12, Image.new("RGB", (210, 190)))
    assert (pixels.kind, pixels.cells, pixels.box) == ("region", None, (10, 20, 220, 210))
    assert pixels.describe() == "looked again at 210x190 px from (10,20)"
    assert pixels.to_dict() == {
        "kind": "region",
        "cells": None,
        "box": [10, 20, 220, 210],
        "tokens": 12,
        "picture": 0,
        "source": 0,
    }
    inner = Looked(Crop(None, (0, 0, 9, 9), source=2), 12, picture=1, area=(40, 30, 50, 40))
    assert (inner.box, inner.source, inner.picture) == ((40, 30, 50, 40), 2, 1)
    assert inner.describe() == "looked again at 10x10 px from (40,30) of picture 2"
    whole = Looked(Whole(1), 64, picture=1)
    assert (whole.kind, whole.box, whole.source) == ("whole", None, None)
    assert whole.describe() == "looked again at the whole picture of picture 2 (whole, 64 tokens)"
    reencode = Looked(Reencode("seg"), 256)
    assert (reencode.kind, reencode.cells, reencode.box, reencode.crop) == ("seg", None, None, None)
    assert reencode.describe() == "looked again at the whole picture (seg, 256 tokens)"


class Sheet:
    """Takes the place of ``overlay.draw``."""

    def draw(
        self,
        image: Image.Image,
        regions: Sequence[Region],
        captions: Sequence[str],
        others: Sequence[Image.Image],
    ) -> Image.Image:
        self.image = image
        self.others = list(others)
        self.regions = list(regions)
        self.captions = list(captions)
        return image


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> Sheet:
    sheet = Sheet()
    monkeypatch.setattr(overlay, "draw", sheet.draw)
    return sheet


def test_a_plot_shows_each_region_and_says_what_was_looked_at(tiny: Tiny, sheet: Sheet) -> None:
    answer = answer_of(Script(REGION + OTHER, "Yes."), tiny())
    answer.plot()
    assert sheet.image.tobytes() == PICTURE.tobytes()
    first, second = answer.looks
    assert first.crop is not None and second.crop is not None
    assert sheet.regions == [
        Region(REGION_ACTION.cells, REGION_ACTION.box, first.crop),
        Region(OTHER_ACTION.cells, OTHER_ACTION.box, second.crop),
    ]
    assert sheet.captions == [
        "Q  What?",
        "    looked again at cells (1,2)-(3,2), 60x24 px; "
        "looked again at cells (7,7)-(7,7), 24x16 px",
        "A  Yes.",
    ]


def test_a_plot_without_regions_has_its_words(tiny: Tiny, sheet: Sheet) -> None:
    answer_of(Script("A dog."), tiny()).plot()
    assert sheet.regions == []
    assert sheet.captions == ["Q  What?", "    answered at the first look", "A  A dog."]
    answer_of(Script(CLIP, "Red."), tiny()).plot()
    assert sheet.regions == []
    assert sheet.captions[1] == "    looked again at the whole picture (clip, 6 tokens)"
