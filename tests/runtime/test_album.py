"""Where a crop of a crop of a crop is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from zoom import call, zoom_bundle

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.album import box_in_picture
from vpt_edge.runtime.perception.views import View
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

Box = tuple[int, int, int, int]


@st.composite
def boxes(draw: st.DrawFn, width: int, height: int) -> Box:
    """A box of a pixel or more."""
    left = draw(st.integers(0, width - 1))
    top = draw(st.integers(0, height - 1))
    return left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))


@given(st.data())
def test_a_crop_of_crops_is_where_it_says(data: st.DataObject) -> None:
    """Each pixel of this picture says where it is."""
    rows, columns = np.indices((60, 90), np.uint8)
    pixels = np.stack((columns, rows, np.zeros_like(rows)), axis=2)
    view = View(0, (0, 0, 90, 60), (90, 60), (84, 56))
    for _ in range(data.draw(st.integers(1, 4))):
        left, top, right, bottom = data.draw(boxes(*view.size))
        pixels = pixels[top:bottom, left:right]
        box = box_in_picture((left, top, right, bottom), view)
        view = View(0, box, (right - left, bottom - top), (28, 28))
        assert tuple(pixels[0, 0, :2]) == box[:2]
        assert tuple(pixels[-1, -1, :2] + 1) == box[2:]


def test_the_whole_of_what_was_enlarged_is_the_whole_of_its_source() -> None:
    view = View(0, (0, 0, 15, 1), (113, 1), (113, 1))
    assert box_in_picture((0, 0, 113, 1), view) == (0, 0, 15, 1)  # 113 * (15 / 113) is above 15


@given(st.data())
def test_what_was_enlarged_lies_within_its_source(data: st.DataObject) -> None:
    source = data.draw(boxes(300, 200))
    size = (data.draw(st.integers(1, 900)), data.draw(st.integers(1, 900)))
    left, top, right, bottom = box_in_picture(data.draw(boxes(*size)), View(0, source, size, size))
    assert source[0] <= left < right <= source[2]
    assert source[1] <= top < bottom <= source[3]


def test_a_look_into_a_look_into_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    script = Script(
        call((8, 4, 72, 60)), call((10, 6, 50, 46), source=1), call((3, 2, 33, 30), source=2), "Yes"
    )
    bundle = zoom_bundle(tmp_path, monkeypatch)
    with Pipeline(bundle, opener=script) as pipeline:
        *_, last = pipeline.ask(picture, "What?").looks
    assert last.box == (21, 12, 51, 40)
    assert last.crop is not None and last.crop.tobytes() == picture.crop(last.box).tobytes()
