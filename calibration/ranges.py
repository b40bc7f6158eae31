"""What flows into each quantized matmul: streaming statistics, and the methods that choose where an
activation's range is clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 2048
ROWS = 32  # observed at a time: they stay in the processor's cache
LEVELS = 128  # of the magnitude of a symmetric 8-bit number


class Statistics:
    """Of one tensor (..., channels): a histogram of magnitudes, and maximum and mean square of each
    channel.

    Memory does not depend on how much is observed. The histogram's range doubles when a larger
    value comes: pairs of bins are merged, so that the result is the same for any partition of the
    same sequence.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.top = 0.0  # upper end of the last bin
        self.bins: Floats = np.zeros(BINS)
        self.maxima: Floats = np.zeros(channels)
        self.squares: Floats = np.zeros(channels)

    def observe(
        self, tensor: NDArray[np.float32], divisor: NDArray[np.floating] | None = None
    ) -> None:
        """Add ``tensor`` (..., channels), divided by ``divisor`` (channels,)."""
        rows = tensor.reshape(-1, len(self.maxima))
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS].astype(np.float64)
            self._add(np.abs(part if divisor is None else part / divisor))

    def _add(self, rows: Floats) -> None:
        np.maximum(self.maxima, rows.max(0), out=self.maxima)
        self.squares += np.square(rows).sum(0)
        self.count += len(rows)
        largest = float(rows.max())
        if largest == 0:
            self.bins[0] += rows.size
            return
        if self.top == 0:
            self.top = 2.0 ** np.ceil(np.log2(largest))
        while self.top < largest:
            self.bins = np.concatenate((self.bins.reshape(-1, 2).sum(1), np.zeros(BINS // 2)))
            self.top *= 2
        place = np.minimum((rows * (BINS / self.top)).astype(np.int64), BINS - 1)
        self.bins += np.bincount(place.ravel(), minlength=BINS)

    def divided(self, divisor: Floats) -> Statistics:
        """As if ``divisor`` (channels,) had divided what was observed; without a histogram, whose
        magnitudes know no channel.
        """
        statistics = Statistics(len(self.maxima))
        statistics.count = self.count
        statistics.maxima = self.maxima / divisor
        statistics.squares = self.squares / np.square(divisor)
        return statistics

    @property
    def mean_squares(self) -> Floats:
        return self.squares / max(self.count, 1)

    def to_dict(self) -> dict[str, Any]:
        filled = int(np.flatnonzero(self.bins).max(initial=-1)) + 1
        return {
            "count": self.count,
            "top": self.top,
            "bins": self.bins[:filled].tolist(),
            "maxima": self.maxima.tolist(),
            "squares": self.squares.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Statistics:
        """What ``to_dict`` gave, to the bit."""
        statistics = cls(len(data["maxima"]))
        statistics.count = data["count"]
        statistics.top = data["top"]
        statistics.bins[: len(data["bins"])] = data["bins"]
        statistics.maxima = np.array(data["maxima"])
        statistics.squares = np.array(data["squares"])
        return statistics


def minmax(statistics: Statistics) -> float:
    """The largest magnitude."""
    return float(statistics.maxima.max())


def percentile(statistics: Statistics, share: float = 0.99999) -> float:
    """The magnitude that ``share`` of all values stays below."""
    total = np.cumsum(statistics.bins)
    edge = int(np.searchsorted(total, share * total[-1])) + 1
    return min(edge * statistics.top / BINS, minmax(statistics))


def mse(statistics: Statistics) -> float:
    """The threshold of least mean squared error, of rounding below it and clipping above it."""
    centres = (np.arange(BINS) + 0.5) * statistics.top / BINS

    def error(threshold: float) -> float:
        step = threshold / (LEVELS - 1)
        rounded = np.minimum(np.round(centres / step), LEVELS - 1) * step
        return float((statistics.bins * np.square(centres - rounded)).sum())

    return _best(statistics, error)


def entropy(statistics: Statistics) -> float:
    """The threshold whose quantized histogram of 128 levels diverges least from the clipped one
    (Kullback-Leibler).
    """

    def divergence(threshold: float) -> float:
        edge = max(LEVELS, round(threshold / statistics.top * BINS))
        clipped = statistics.bins[:edge].copy()
        filled = clipped > 0
        group = np.arange(edge) * LEVELS // edge
        mass = np.bincount(group, clipped, LEVELS)
        members = np.bincount(group, filled, LEVELS)
        spread = np.where(filled, (mass / np.maximum(members, 1))[group], 0)
        clipped[-1] += statistics.bins[edge:].sum()
        p = clipped / clipped.sum()
        q = spread / max(spread.sum(), 1)
        ratio = p[p > 0] / np.maximum(q[p > 0], 1e-12)
        return float((p[p > 0] * np.log(ratio)).sum())

    return _best(statistics, divergence)


def _best(statistics: Statistics, loss: Callable[[float], float]) -> float:
    top = minmax(statistics)
    candidates = np.linspace(top / 16, top, 121)
    return float(min(candidates, key=loss)) if top else 0.0


RANGE_METHODS: dict[str, Callable[[Statistics], float]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
