"""What a turn is generated from: ids, and the visual tokens that stand among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

Grid: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Encoded:
    """The visual tokens of a picture or crop: ``features`` (tokens, hidden) float32.

    ``grid``: frames, rows and columns of its patches. None for a re-encode: its tokens stand in
    line like text, and are projected under the condition when they are read (PROTOCOL 5.1, 5.3).
    ``deep`` (levels, tokens, hidden) float32: what the decoder adds behind its first layers, where
    the model has that. ``places`` (tokens,): which of the grid's visual tokens these are, in
    reading order; None: all. They keep the positions that they have among all. ``times`` (frames,):
    the position in time of each frame of the grid, from 0 on; None: they are counted.
    """

    features: Floats
    grid: Grid | None
    deep: Floats | None = None
    places: Integers | None = None
    times: tuple[int, ...] | None = None

    @property
    def tokens(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Visual:
    """Visual tokens in their place: from the id at ``start`` on, one pad each."""

    start: int
    encoded: Encoded

    @property
    def end(self) -> int:
        return self.start + self.encoded.tokens


@dataclass
class Context:
    """All that a turn is generated from; ``visuals`` are in the order of their places."""

    ids: list[int] = field(default_factory=list)
    visuals: list[Visual] = field(default_factory=list)


def first_difference(visuals: Sequence[Visual], others: Sequence[Visual]) -> int | None:
    """The id from which on two contexts hold other visual tokens; None where they never do."""
    for one, other in zip(visuals, others, strict=False):
        if one.start != other.start or one.encoded is not other.encoded:
            return min(one.start, other.start)
    shared = min(len(visuals), len(others))
    rest = [*visuals[shared:], *others[shared:]]
    if not rest:
        return None
    return rest[0].start
