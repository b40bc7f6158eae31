"""Visual tokens of a frame that did not change since the frame before it, which are dropped.

It is TimeChat-Online's differential token drop: a token is held against the one in its place of the
whole frame before, whether that was shown or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.processor import MERGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.image import Patches

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

PATCHES = MERGE**2  # of a visual token


@dataclass(frozen=True)
class StillLimits:
    """When a visual token is still: its pixels differ by less than ``pixels`` in the mean, as the
    tower normalizes them, or its features are more alike than the cosine ``features``. None: it is
    not asked.
    """

    pixels: float | None = None
    features: float | None = None


def find_changed_pixels(patches: Patches, before: Patches, limit: float) -> Integers:
    """The visual tokens whose pixels differ by ``limit`` or more: places in reading order."""
    difference = np.abs(patches.values - before.values)
    tokens = len(difference) // PATCHES
    return np.flatnonzero(difference.reshape(tokens, -1).mean(axis=1) >= limit)


def find_changed_features(features: Floats, before: Floats, limit: float) -> Integers:
    """The visual tokens (tokens, hidden) whose cosine with the one before is ``limit`` or less."""
    products = np.einsum("th,th->t", features, before)
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(before, axis=1)
    cosine = products / np.maximum(lengths, np.finfo(np.float32).tiny)
    return np.flatnonzero(cosine <= limit)


def keep_tokens(encoded: Encoded, places: Integers) -> Encoded:
    """``encoded`` with the visual tokens at ``places`` alone."""
    deep = encoded.deep
    if deep is not None:
        deep = deep[:, places]
    return Encoded(encoded.features[places], encoded.grid, deep, places)
