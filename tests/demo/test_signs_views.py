"""What the training shows the network is what the runtime shows it."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from network import Network
from signs.see import encode, patchify
from signs.sizes import VIEW
from signs.views import LIMITS, place_letters, view_crop, view_first
from signs_tiny import GEOMETRY

from vpt_edge.live.signs.grounds import Grounds, find_photographs
from vpt_edge.live.signs.layout import Conditions, lay_out
from vpt_edge.live.signs.painter import Painter
from vpt_edge.runtime import image
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR


@pytest.mark.parametrize(("side", "shown"), [(512, 196), (640, 224), (1280, 224)])
def test_views_have_the_pixels_of_the_runtime(side: int, shown: int) -> None:
    scene = lay_out(Random(side), side, Conditions("test"))
    painter = Painter(scene, Grounds(find_photographs("test")))
    picture = painter.picture()
    x, y = scene.signs[0].cell
    width = side // 8
    crop = picture.crop(((x - 1) * width, (y - 1) * width, (x + 2) * width, (y + 2) * width))
    for view, whole in (
        (view_first(painter, side), picture),
        (view_crop(painter, side, (x, y)), crop),
    ):
        patches = PROCESSOR.preprocess(whole, LIMITS)
        frames = patches.values.reshape(len(patches.values), 3, 2, -1)
        mine = patchify(view[None])[0].numpy().reshape(len(patches.values), 3, -1)
        np.testing.assert_allclose(mine, frames[:, :, 0], atol=1e-5)
        assert (frames[:, :, 0] == frames[:, :, 1]).all()
    assert view_crop(painter, side, (x, y)).shape == (shown, shown, 3)


def test_letters_are_where_they_are_painted() -> None:
    """A sign without its text has other pixels around the middle of each letter."""
    scene = lay_out(Random(5), 1024, Conditions("test", harshness=0))
    painter = Painter(scene, Grounds(find_photographs("test")))
    sign = scene.signs[0]
    crop = view_crop(painter, scene.side, sign.cell).astype(int)
    for x, y in place_letters(sign, sign.cell, VIEW):
        around = crop[round(y) - 8 : round(y) + 8, round(x) - 5 : round(x) + 5].sum(-1)
        assert around.max() - around.min() > 200


def test_one_frame_is_encoded_as_two_equal_ones() -> None:
    torch.manual_seed(0)
    network = Network(GEOMETRY.vision, GEOMETRY.text)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 56, 84, 3)).astype(np.uint8)
    with torch.no_grad():
        features = encode(network, pixels)
        for row in range(2):
            picture = image.open_picture(pixels[row])
            patches = PROCESSOR.preprocess(picture, LIMITS)
            expected = network.see(torch.from_numpy(patches.values)[None], patches.grid[1:])
            torch.testing.assert_close(features[row], expected[0], atol=1e-4, rtol=1e-4)
