"""Pictures to test with: of the golden tables, of noise, and as a model's patches show them."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tables import TABLES, table

from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Patches

LONGEST_SIDE = 512
SEG_LONGEST_SIDE = 1024
MIN_PIXELS = 3136
MAX_PIXELS = 12845056
LIMITS = ImageConfig(LONGEST_SIDE, MIN_PIXELS, MAX_PIXELS)

ROWS = table("preprocess") or []
GOOD = [row for row in ROWS if "error" not in row["qwen"]]
BAD = [row for row in ROWS if "error" in row["qwen"]]


def sha256(array: np.ndarray[Any, Any] | Image.Image) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def golden_picture(row: dict[str, Any]) -> Image.Image:
    picture = open_picture(TABLES / "images" / row["file"])
    assert (picture.mode, list(picture.size)) == (row["mode"], row["wh"])
    return picture


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def file_of(picture: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of a file of ``picture`` in Pillow's format ``form``."""
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def patchify(picture: Image.Image) -> Patches:
    """What Qwen2-VL sees of ``picture``, within the authors' limits."""
    return PROCESSOR.preprocess(picture, LIMITS)


def picture_of(patches: Patches) -> np.ndarray[Any, Any]:
    """(height, width, 3) uint8 from Qwen2-VL's patches."""
    _, rows, columns = patches.grid
    values = patches.values.reshape(rows // 2, columns // 2, 2, 2, 3, 2, 14, 14)
    frames = values.transpose(5, 0, 2, 6, 1, 3, 7, 4).reshape(2, 14 * rows, 14 * columns, 3)
    np.testing.assert_array_equal(frames[0], frames[1])  # the frame is duplicated
    return np.rint((frames[0] * PROCESSOR.std + PROCESSOR.mean) * 255).astype(np.uint8)
