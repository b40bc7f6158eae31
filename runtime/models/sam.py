"""SAM: what it sees of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vpt_edge.runtime.image import imagenet_planes, regularize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SIDE = 1024


class Sam:
    """See ``runtime.models.Encoder``."""

    def preprocess(self, picture: Image.Image, longest_side: int) -> Floats:
        return preprocess(picture, longest_side)


def preprocess(picture: Image.Image, longest_side: int) -> Floats:
    """Longest side 1024, zeros right and below: (1, 3, 1024, 1024) float32 (PROTOCOL 4)."""
    picture = regularize(picture, longest_side)
    scale = SIDE / max(picture.size)
    width = int(picture.width * scale + 0.5)
    height = int(picture.height * scale + 0.5)
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    padded = np.zeros((1, 3, SIDE, SIDE), np.float32)
    padded[0, :, :height, :width] = imagenet_planes(np.asarray(resized))
    return padded
