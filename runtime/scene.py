"""The frames of one scene as one visual of a prompt: all its pairs in one grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.processor import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

SCENE = "<video>"


def join_pairs(pairs: Sequence[Encoded], times: Sequence[int] | None = None) -> Encoded:
    """``pairs`` of frames, each encoded for itself, as one visual.

    A vision encoder of this family sees each pair alone, so that nothing is left to compute.
    ``times``: the position in time of each; None: they are counted.
    """
    grid = pairs[0].grid
    assert grid is not None
    _, rows, columns = grid
    features = np.concatenate([pair.features for pair in pairs])
    moments = None if times is None else tuple(times)
    grid = (len(pairs), rows, columns)
    return Encoded(features, grid, places=_join_places(pairs), times=moments)


def _join_places(pairs: Sequence[Encoded]) -> NDArray[np.int64] | None:
    if all(pair.places is None for pair in pairs):
        return None
    joined = list[NDArray[np.int64]]()
    start = 0
    for pair in pairs:
        assert pair.grid is not None
        count = tokens(pair.grid)
        places = np.arange(count) if pair.places is None else pair.places
        joined.append(start + places)
        start += count
    return np.concatenate(joined)
