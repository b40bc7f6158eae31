"""What became of one sample, and how far two of them agree on where to look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vpt_edge.calibration.metrics import overlap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.result import Looked


@dataclass(frozen=True)
class Outcome:
    """What became of one sample.

    ``looks`` are the answer's, without their crops; ``score`` is None without a true answer;
    ``seconds`` by stage; ``first_logits`` (vocabulary,) float32 of the first turn, if they were to
    be kept. A picture or a question that the model cannot be shown has ``finish_reason`` "failed",
    says why in ``error`` and scores 0.
    """

    text: str
    raw: str
    looks: tuple[Looked, ...]
    score: float | None
    seconds: dict[str, float]
    finish_reason: str
    error: str = ""
    first_logits: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The kinds of the looks, in order."""
        return tuple(look.kind for look in self.looks)

    @property
    def cells(self) -> tuple[Box, ...]:
        """``regions`` without their pictures."""
        return tuple(box for _, box in self.regions)

    @property
    def regions(self) -> tuple[tuple[int, Box], ...]:
        """What the region looks chose, in order: the picture's index, and cells of it, or else
        pixels, inclusive.
        """
        chosen = []
        for look in self.looks:
            if look.box is not None:
                chosen.append((look.picture, _chosen(look.cells, look.box)))
        return tuple(chosen)


def _chosen(cells: Box | None, box: Box) -> Box:
    if cells is not None:
        return cells
    left, top, right, bottom = box
    return left, top, max(left, right - 1), max(top, bottom - 1)


def overlap_of_looks(one: Outcome, other: Outcome) -> float:
    """Mean intersection over union of the regions of each picture, in order."""
    pictures = sorted({picture for picture, _ in (*one.regions, *other.regions)})
    if not pictures:
        return 1.0
    shares = [overlap(_of(one, index), _of(other, index)) for index in pictures]
    return sum(shares) / len(shares)


def _of(outcome: Outcome, picture: int) -> list[Box]:
    return [cells for index, cells in outcome.regions if index == picture]
