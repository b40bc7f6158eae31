"""Photographs that signs stand in.

Those that come with scikit-image, which is not imported for it, are in the public domain or CC0
(the docstrings of skimage.data say of each); or the pictures of a folder.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.image import open_picture, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.live.signs.sign import Part

INSTALL = "pip install 'vpt-edge[signs]'"
PHOTOGRAPHS: dict[Part, tuple[str, ...]] = {
    "training": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "coffee.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "retina.jpg",
    ),
    "test": ("chelsea.png", "clock_motion.png", "grass.png", "rocket.jpg"),
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
SPARE = 1.3  # the shorter side of a photograph, against that of a scene in it
LONGEST_SIDE = 2  # of a photograph, against its shorter one; the rest is cut off
CACHED = 64  # photographs, each as large as the scenes that it was needed for


def find_photographs(part: Part) -> tuple[Path, ...]:
    """The photographs of training, or those kept for the test. Raises VptError without them."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise VptError("the photographs of scikit-image are not installed", INSTALL)
    folder = Path(spec.submodule_search_locations[0]) / "data"
    paths = tuple(folder / name for name in PHOTOGRAPHS[part])
    for path in paths:
        if not path.is_file():
            raise VptError(
                f"this scikit-image comes without {path.name}, {path} is missing", INSTALL
            )
    return paths


def find_pictures(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder, by their names. Raises VptError where there are none."""
    if not folder.is_dir():
        raise VptError(f"no folder at {folder}, expected one with pictures")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise VptError(f"{folder} holds no pictures, expected {', '.join(SUFFIXES)}")
    return tuple(paths)


class Grounds:
    """Opens ``paths`` in the size that a scene needs; the newest ones stay in memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._open = functools.lru_cache(maxsize=CACHED)(self._read)

    def open(self, number: int, side: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB, the shorter of which is SPARE times ``side``; ``number`` is
        counted round. Raises ImageError for a file that is not a picture.
        """
        return self._open(number % len(self._paths), side)

    def _read(self, number: int, side: int) -> NDArray[np.uint8]:
        picture = open_picture(self._paths[number])
        width, height = picture.size
        longest = LONGEST_SIDE * min(width, height)
        if max(width, height) > longest:
            left = max(width - longest, 0) // 2
            top = max(height - longest, 0) // 2
            picture = picture.crop((left, top, width - left, height - top))
            width, height = picture.size
        scale = SPARE * side / min(width, height)
        size = (round(width * scale), round(height * scale))
        return np.asarray(resize(picture, size, "bicubic"))
