"""Pictures are turned as they are named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vpt_edge.live.flip import FLIPS, flip_raster
from vpt_edge.live.frame import ArrayRaster

PILLOW = {
    "none": None,
    "counterclockwise": Image.Transpose.ROTATE_90,
    "rotate-180": Image.Transpose.ROTATE_180,
    "clockwise": Image.Transpose.ROTATE_270,
    "horizontal": Image.Transpose.FLIP_LEFT_RIGHT,
    "vertical": Image.Transpose.FLIP_TOP_BOTTOM,
}


@pytest.mark.parametrize("flip", FLIPS)
def test_it_is_what_pillow_makes_of_it(flip: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    expected = Image.fromarray(pixels)
    method = PILLOW[flip]
    if method is not None:
        expected = expected.transpose(method)
    raster = flip_raster(ArrayRaster(pixels), flip)
    assert np.array_equal(raster.to_rgb(), np.asarray(expected))
    luma = raster.to_luma(expected.width // 10, expected.height // 10)
    grey = expected.convert("L").resize(luma.shape[::-1], Image.Resampling.BOX)
    assert luma.shape == (expected.height // 10, expected.width // 10)
    assert np.abs(luma.astype(int) - np.asarray(grey)).max() <= 1
