"""What SAM sees, to the authors' bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden import needs_golden
from pictures import GOOD, SEG_LONGEST_SIDE, golden_picture, sha256
from PIL import Image

from vpt_edge.runtime.image import IMAGENET_MEAN, IMAGENET_STD, regularize
from vpt_edge.runtime.models import Encoder, open_encoder
from vpt_edge.runtime.models.sam import Sam, preprocess


@needs_golden
@pytest.mark.parametrize("row", GOOD, ids=lambda row: row["file"])
def test_what_sam_sees_is_the_authors(row: dict[str, Any]) -> None:
    expected = row["sam"]
    picture = golden_picture(row)
    assert list(regularize(picture, SEG_LONGEST_SIDE).size) == expected["regularized_wh"]
    pixels = open_encoder("sam").preprocess(picture, SEG_LONGEST_SIDE)
    width, height = expected["resized_wh"]
    inside = pixels[0, :, :height, :width].transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN
    assert sha256(np.rint(inside * 255).astype(np.uint8)) == expected["resized_sha256_rgb8"]
    assert not pixels[0, :, height:].any()
    assert not pixels[0, :, :, width:].any()
    assert sha256(pixels) == expected["tensor"]["sha256_f32"]


def test_it_is_known_by_its_name() -> None:
    encoder: Encoder = Sam()  # mypy holds it against the protocol
    assert isinstance(open_encoder("sam"), type(encoder))


def test_it_sees_zeros_right_and_below() -> None:
    pixels = preprocess(Image.new("RGB", (100, 50), (255, 255, 255)), SEG_LONGEST_SIDE)
    assert (pixels.shape, pixels.dtype.name) == ((1, 3, 1024, 1024), "float32")
    assert (pixels[0, :, :512] > 2).all()
    assert not pixels[0, :, 512:].any()
