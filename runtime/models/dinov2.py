"""DINOv2: what it sees of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vpt_edge.runtime.image import imagenet_planes, regularize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SHORTEST_SIDE = 256
SIDE = 224


class Dinov2:
    """See ``runtime.models.Encoder``."""

    def preprocess(self, picture: Image.Image, longest_side: int) -> Floats:
        return preprocess(picture, longest_side)


def preprocess(picture: Image.Image, longest_side: int) -> Floats:
    """Shortest side 256, of that the central 224x224: (1, 3, 224, 224) float32 (PROTOCOL 4)."""
    picture = regularize(picture, longest_side)
    short, long = sorted(picture.size)
    scaled = int(SHORTEST_SIDE * long / short)
    if picture.width == short:
        size = (SHORTEST_SIDE, scaled)
    else:
        size = (scaled, SHORTEST_SIDE)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left = (picture.width - SIDE) // 2
    top = (picture.height - SIDE) // 2
    centre = np.asarray(picture)[top : top + SIDE, left : left + SIDE]
    return imagenet_planes(centre)[None]
