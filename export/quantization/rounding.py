"""Weights rounded to INT8 and INT4, a part that fits into the processor's cache at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

NUMBERS = 1 << 18  # of a weight, that are rounded at a time
INT4_EXTREMES = (
    -8.0,
    -7.6,
    -7.2,
    -6.8,
    -6.4,
    8.0,
    7.5,
    7.0,
    6.5,
    6.0,
)  # what a block's largest becomes


def int8_weight(weight: Array, axis: int) -> tuple[NDArray[np.int8], Array]:
    """Symmetric, per output channel: the integers -127..127, and one scale a channel.

    The weights of inputs 2i and 2i + 1 add up to 128 at most. Processors with AVX2 and no VNNI
    multiply them with unsigned activations pair by pair, and clamp sums that do not fit into 16
    bits: 255 * 128 fits, so that a product is exact, and the same, on all of them. Where few
    weights are large this costs nothing; of a normal distribution the step becomes a third wider.
    """
    largest = np.zeros(weight.shape[axis], np.float32)
    for rows in _slices(len(weight), weight.shape[1]):
        of_rows = np.maximum(np.abs(weight[rows]).max(1 - axis), _largest_pair(weight, rows, axis))
        if axis == 0:
            largest[rows] = of_rows
        else:
            np.maximum(largest, of_rows, out=largest)
    scale = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
    integers = np.empty(weight.shape, np.int8)
    for rows in _slices(len(weight), weight.shape[1]):
        steps = weight[rows] / (scale[rows, None] if axis == 0 else scale)
        integers[rows] = np.clip(np.rint(steps, out=steps), -127, 127, out=steps)
    return integers, scale


def _largest_pair(weight: Array, rows: slice, axis: int) -> Array:
    """Of each channel, in ``rows`` of the weight as stored: the largest sum of two neighbours along
    the inputs.
    """
    if axis == 0:
        pairs = weight[rows, 0:-1:2] + weight[rows, 1::2]
    else:  # pairs that begin within the rows
        first = slice(rows.start + rows.start % 2, min(rows.stop, len(weight) - 1), 2)
        pairs = weight[first] + weight[first.start + 1 : first.stop + 1 : 2]
    return np.abs(pairs).max(1 - axis, initial=0)


def int4_weight(weight: Array, block: int, importance: Array) -> tuple[NDArray[np.int8], Array]:
    """Symmetric, in blocks of ``block`` along the inputs: integers -8..7 (inputs, outputs), scales
    (blocks, outputs).

    Each block's scale is the one of least squared error of the outputs; ``importance`` (inputs,) is
    the mean square of what each row is multiplied with.
    """
    inputs, outputs = weight.shape
    blocks = -(-inputs // block)
    share = np.zeros((blocks, block, 1), np.float32)
    share.reshape(-1)[:inputs] = importance
    integers = np.empty((blocks * block, outputs), np.int8)
    scales = np.empty((blocks, outputs), np.float32)
    for columns in _slices(outputs, inputs):
        padded = np.zeros((blocks * block, columns.stop - columns.start), np.float32)
        padded[:inputs] = weight[:, columns]
        padded = padded.reshape(blocks, block, -1)
        scale = _int4_scales(padded, share)
        padded /= scale
        np.clip(np.rint(padded, out=padded), -8, 7, out=padded)
        integers[:, columns] = padded.reshape(blocks * block, -1)
        scales[:, columns] = scale[:, 0]
    return integers, scales


def _int4_scales(padded: Array, share: Array) -> Array:
    """The scales (blocks, 1, outputs) of least error for a weight (blocks, block, outputs)."""
    extreme = np.take_along_axis(padded, np.abs(padded).argmax(1)[:, None], 1)
    best = np.ones_like(extreme)
    least = np.full_like(extreme, np.inf)
    buffer = np.empty_like(padded)
    for steps in INT4_EXTREMES:
        scale = np.where(extreme == 0, 1, extreme / np.float32(steps)).astype(np.float32)
        np.divide(padded, scale, out=buffer)
        np.clip(np.rint(buffer, out=buffer), -8, 7, out=buffer)
        buffer *= scale
        np.square(np.subtract(padded, buffer, out=buffer), out=buffer)
        buffer *= share
        loss = buffer.sum(1, keepdims=True)
        best = np.where(loss < least, scale, best)
        least = np.minimum(loss, least)
    return best


def _slices(count: int, width: int) -> Iterator[slice]:
    """Slices of ``count`` lines of ``width`` numbers, of nearly the same size."""
    parts = max(1, -(-count * width // NUMBERS))
    edges = [count * index // parts for index in range(parts + 1)]
    return (slice(start, stop) for start, stop in pairwise(edges) if start < stop)


def pack(integers: NDArray[np.int8], block: int) -> NDArray[np.uint8]:
    """(inputs, outputs) of -8..7 -> (outputs, blocks, block / 2): two a byte, the earlier one low,
    8 for zero.
    """
    low = (integers[0::2] + np.int8(8)).view(np.uint8)
    high = (integers[1::2] + np.int8(8)).view(np.uint8)
    pairs = low | high << 4
    return np.ascontiguousarray(pairs.T).reshape(integers.shape[1], -1, block // 2)


class RoundedWeight:
    """The integers and the scales of one weight: rounded once for both, each forgotten when it is
    taken.
    """

    def __init__(self, round_weight: Callable[[], tuple[NDArray[np.int8], Array]]) -> None:
        self._round = round_weight
        self._lock = threading.Lock()
        self._integers: NDArray[np.int8] | None = None
        self._scales: Array | None = None

    def take_integers(self) -> NDArray[np.int8]:
        with self._lock:
            if self._integers is None:
                self._integers, self._scales = self._round()
            integers = self._integers
            self._integers = None
        return integers

    def take_scales(self) -> Array:
        with self._lock:
            if self._scales is None:
                self._integers, self._scales = self._round()
            scales = self._scales
            self._scales = None
        return scales
