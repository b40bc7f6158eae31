"""What DINOv2 sees, to the authors' bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden import needs_golden
from pictures import GOOD, LONGEST_SIDE, golden_picture, sha256
from PIL import Image

from vpt_edge.runtime.image import IMAGENET_MEAN, IMAGENET_STD, regularize
from vpt_edge.runtime.models import Encoder, open_encoder
from vpt_edge.runtime.models.dinov2 import Dinov2, preprocess


@needs_golden
@pytest.mark.parametrize("row", GOOD, ids=lambda row: row["file"])
def test_what_dinov2_sees_is_the_authors(row: dict[str, Any]) -> None:
    expected = row["dino"]
    picture = golden_picture(row)
    assert list(regularize(picture, LONGEST_SIDE).size) == expected["regularized_wh"]
    pixels = open_encoder("dinov2").preprocess(picture, LONGEST_SIDE)
    seen = np.rint((pixels[0].transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN) * 255)
    assert sha256(seen.astype(np.uint8)) == expected["cropped_sha256_rgb8"]
    assert list(pixels.shape) == expected["tensor"]["shape"]
    assert sha256(pixels) == expected["tensor"]["sha256_f32"]


def test_it_is_known_by_its_name() -> None:
    encoder: Encoder = Dinov2()  # mypy holds it against the protocol
    assert isinstance(open_encoder("dinov2"), type(encoder))


def test_it_sees_the_centre() -> None:
    pixels = preprocess(Image.new("RGB", (100, 100), (255, 255, 255)), LONGEST_SIDE)
    assert (pixels.shape, pixels.dtype.name) == ((1, 3, 224, 224), "float32")
    values = np.zeros((256, 512, 3), np.uint8)
    values[16:240, 144:368] = 255
    pixels = preprocess(Image.fromarray(values), LONGEST_SIDE)
    assert len(np.unique(pixels[0, 0])) == 1
