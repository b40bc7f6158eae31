"""Outlier smoothing: channels that are large in an activation are made small there and large in the
weight behind it.

A fold divides the rows of a producer (a norm, or a matrix product without a nonlinearity behind it)
by a scale and multiplies the columns of its consumers by the same: the model computes the same, and
rounds better. The scale of a channel is maximum(activation)^a / maximum(weight)^(1 - a), its
strength ``a`` searched for each fold by the error that rounding is expected to make (Xiao et al.
2023; Lin et al. 2024 for weights alone)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.ranges import Statistics

    Array = NDArray[np.float64]

STRENGTHS = tuple(step / 10 for step in range(1, 11))
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

    ``strengths`` tells it by fold, 0 where nothing is gained.
    """

    rows: dict[str, tuple[int, Array]] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)
    strengths: dict[str, float] = field(default_factory=dict)

    def touches(self, name: str) -> bool:
        return name in self.rows or name in self.columns

    def scaled(self, name: str, weight: Array, first: int = 0, step: int = 1) -> Array:
        """The tensor ``name`` (outputs, inputs) or (outputs,) of the checkpoint, with its folds.

        ``weight`` may be a part of it: every ``step``-th row from ``first`` on.
        """
        if name in self.rows:
            start, scale = self.rows[name]
            place = first + step * np.arange(len(weight)) - start
            inside = (place >= 0) & (place < len(scale))
            divisor = np.where(inside, scale[np.where(inside, place, 0)], 1.0)
            weight = weight / (divisor if weight.ndim == 1 else divisor[:, None])
        return weight * self.columns[name] if name in self.columns else weight


def search(
    folds: tuple[Fold, ...],
    statistics: Mapping[str, Statistics],
    read: Callable[[str], NDArray[np.floating]],
    int4: Callable[[str], bool],
    block: int,
) -> Smoothing:
    """Choose each fold's strength from ``statistics`` by weight.

    ``read`` gives a weight, ``int4`` whether it becomes INT4, in blocks of ``block``, which divides
    its inputs."""
    found = Smoothing()
    for fold in folds:
        if any(consumer not in statistics for consumer in fold.consumers):
            continue
        channel = np.array(fold.channel)
        weights = [_some_rows(found, name, read(name)) for name in fold.consumers]
        seen = statistics[fold.consumers[0]]
        only_weights = all(int4(name) for name in fold.consumers)
        int4_block = block if only_weights else None
        loudness = _reduced(np.sqrt(seen.mean_squares) if only_weights else seen.maxima, channel)
        size = _reduced(np.max([np.abs(weight).max(0) for weight in weights], axis=0), channel)

        def error(
            scale: Array,
            weights: list[Array] = weights,
            seen: Statistics = seen,
            block: int | None = int4_block,
        ) -> float:
            return sum(_expected_error(weight, seen, scale, block) for weight in weights)

        candidates = {0.0: np.ones(fold.channels)}
        for strength in STRENGTHS:
            scale = loudness**strength / (1.0 if only_weights else size ** (1 - strength))
            candidates[strength] = np.clip(scale / np.exp(np.log(scale).mean()), 1e-4, 1e4)
        best = min(candidates, key=lambda strength: error(candidates[strength][channel]))
        found.strengths[" + ".join(fold.consumers)] = best
        if best:
            found.rows |= dict.fromkeys(fold.producers, (fold.start, candidates[best]))
            found.columns |= dict.fromkeys(fold.consumers, candidates[best][channel])
    return found


def _some_rows(smoothing: Smoothing, name: str, weight: NDArray[np.floating]) -> Array:
    """As many rows of a weight as the error is measured on, with the folds found so far."""
    step = max(1, len(weight) // ROWS)
    return smoothing.scaled(name, weight[::step].astype(np.float64), step=step)


def _reduced(values: Array, channel: NDArray[np.int64]) -> Array:
    """The largest value of each producer's channel, never zero."""
    largest = np.zeros(channel.max() + 1)
    np.maximum.at(largest, channel, values)
    return np.maximum(largest, 1e-6 * max(float(largest.max()), 1e-6))


def _expected_error(weight: Array, seen: Statistics, scale: Array, block: int | None) -> float:
    """Expected squared error of the outputs: a step of rounding is uniform, its mean square a
    twelfth of its square.

    ``block``: of an INT4 weight; None: INT8, of weight and activation.
    """
    weight, squares = weight * scale, seen.mean_squares / scale**2
    if block:
        step = np.abs(weight).reshape(len(weight), -1, block).max(2) / 7.5
        shares = squares.reshape(-1, block).sum(1)
        return float((step**2 * shares).sum() / 12)
    activation = float((seen.maxima / scale).max()) / 127
    pairs = np.abs(weight[:, 0:-1:2] + weight[:, 1::2]).max(
        1, initial=0
    )  # as int8_weight bounds them
    step = np.maximum(np.abs(weight).max(1), pairs) / 127
    return float((activation**2 * np.square(weight).sum() + (step**2).sum() * squares.sum()) / 12)
