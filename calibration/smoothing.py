"""Outlier smoothing: channels that are large in an activation are made small there and large in the
weight behind it.

A fold divides the rows of a producer (a norm, or a matmul without a nonlinearity behind it)
by a scale and multiplies the columns of its consumers by the same: the model computes the same, and
rounds better. The scale of a channel is maximum(activation)^alpha / maximum(weight)^(1 - alpha),
``alpha`` searched for each fold by the error that rounding is expected to make (Xiao et al. 2023;
Lin et al. 2024 for weights alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.ranges import Statistics

    Array = NDArray[np.float64]

ALPHAS = tuple(step / 10 for step in range(1, 11))
SCALE_LIMIT = 1e4  # of a channel, and one over it
ROWS = 512  # of a weight, that the expected error is measured on


@dataclass(frozen=True)
class Fold:
    """``producers``: tensors whose rows from ``start`` on are divided; ``consumers``: weights
    (outputs, inputs).

    ``channel`` gives, for each input of the consumers, the producer's channel that it comes from.
    """

    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    channel: tuple[int, ...]
    start: int = 0

    @property
    def channels(self) -> int:
        return max(self.channel) + 1


@dataclass
class Smoothing:
    """What the folds of one graph do to its weights.

    ``rows``: of a producer, the first row that is divided and the scales from there on;
    ``columns``: of a consumer, what each input is multiplied by; ``alphas`` by fold, 0 where
    nothing is gained.
    """

    rows: dict[str, tuple[int, Array]] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)

    def touches(self, name: str) -> bool:
        return name in self.rows or name in self.columns

    def apply(self, name: str, weight: Array, first: int = 0, step: int = 1) -> Array:
        """The tensor ``name`` (outputs, inputs) or (outputs,) of the checkpoint, with its folds.

        ``weight`` may be a part of it: every ``step``-th row from ``first`` on.
        """
        if name in self.rows:
            start, scale = self.rows[name]
            place = first + step * np.arange(len(weight)) - start
            is_inside = (place >= 0) & (place < len(scale))
            divisor = np.where(is_inside, scale[np.where(is_inside, place, 0)], 1.0)
            weight = weight / (divisor if weight.ndim == 1 else divisor[:, None])
        if name in self.columns:
            weight = weight * self.columns[name]
        return weight


class SmoothingSearch:
    """Chooses each fold's alpha from ``statistics`` by weight.

    ``read`` gives a weight (outputs, inputs), ``is_int4`` tells whether it becomes INT4, in blocks
    of ``block``, which divides its inputs.
    """

    def __init__(
        self,
        statistics: Mapping[str, Statistics],
        read: Callable[[str], NDArray[np.floating]],
        is_int4: Callable[[str], bool],
        block: int,
    ) -> None:
        self._statistics = statistics
        self._read = read
        self._is_int4 = is_int4
        self._block = block

    def run(self, folds: Iterable[Fold]) -> Smoothing:
        """The best smoothing of ``folds``, one behind the other; a fold whose consumers were not
        all recorded is left alone.
        """
        smoothing = Smoothing()
        for fold in folds:
            if all(consumer in self._statistics for consumer in fold.consumers):
                self._add(smoothing, fold)
        return smoothing

    def _add(self, smoothing: Smoothing, fold: Fold) -> None:
        channel = np.array(fold.channel)
        weights = [_some_rows(smoothing, name, self._read(name)) for name in fold.consumers]
        statistics = self._statistics[fold.consumers[0]]
        block = self._block if all(map(self._is_int4, fold.consumers)) else None
        scales = _candidates(fold, weights, statistics, weights_only=block is not None)

        def error(alpha: float) -> float:
            scale = scales[alpha][channel]
            return sum(_expected_error(weight, statistics, scale, block) for weight in weights)

        alpha = min(scales, key=error)
        smoothing.alphas[" + ".join(fold.consumers)] = alpha
        if alpha:
            smoothing.rows |= dict.fromkeys(fold.producers, (fold.start, scales[alpha]))
            smoothing.columns |= dict.fromkeys(fold.consumers, scales[alpha][channel])


def _candidates(
    fold: Fold, weights: Sequence[Array], statistics: Statistics, weights_only: bool
) -> dict[float, Array]:
    """The scales (channels,) of ``fold`` by alpha, with a geometric mean of 1."""
    channel = np.array(fold.channel)
    activation = np.sqrt(statistics.mean_squares) if weights_only else statistics.maxima
    activation_scale = _reduce(activation, channel)
    weight_scale = _reduce(np.max([np.abs(weight).max(0) for weight in weights], axis=0), channel)
    scales = {0.0: np.ones(fold.channels)}
    for alpha in ALPHAS:
        scale = activation_scale**alpha
        if not weights_only:
            scale = scale / weight_scale ** (1 - alpha)
        mean = np.exp(np.log(scale).mean())
        scales[alpha] = np.clip(scale / mean, 1 / SCALE_LIMIT, SCALE_LIMIT)
    return scales


def _some_rows(smoothing: Smoothing, name: str, weight: NDArray[np.floating]) -> Array:
    """As many rows of a weight as the error is measured on, with the folds chosen so far."""
    step = max(1, len(weight) // ROWS)
    return smoothing.apply(name, weight[::step].astype(np.float64), step=step)


def _reduce(values: Array, channel: NDArray[np.int64]) -> Array:
    """The largest value of each producer's channel, never zero."""
    largest = np.zeros(channel.max() + 1)
    np.maximum.at(largest, channel, values)
    return np.maximum(largest, 1e-6 * max(float(largest.max()), 1e-6))


def _expected_error(
    weight: Array, statistics: Statistics, scale: Array, block: int | None
) -> float:
    """Expected squared error of the outputs: a step of rounding is uniform, its mean square a
    twelfth of its square.

    ``block``: of an INT4 weight; None: INT8, of weight and activation.
    """
    weight = weight * scale
    squares = statistics.mean_squares / scale**2
    if block:
        step = np.abs(weight).reshape(len(weight), -1, block).max(2) / 7.5
        shares = squares.reshape(-1, block).sum(1)
        return float((step**2 * shares).sum() / 12)
    activation_step = float((statistics.maxima / scale).max()) / 127
    pairs = np.abs(weight[:, 0:-1:2] + weight[:, 1::2])  # as int8_weight bounds them
    step = np.maximum(np.abs(weight).max(1), pairs.max(1, initial=0)) / 127
    activation_error = activation_step**2 * np.square(weight).sum()
    return float((activation_error + (step**2).sum() * squares.sum()) / 12)
