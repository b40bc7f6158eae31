"""Weights rounded to INT8 and INT4, a part that fits into the processor's cache at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

NUMBERS = 1 << 18  # of a weight, that are rounded at a time
CANDIDATES = (
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
)  # int4 steps to a block's extreme value


def int8_weight(weight: Array, axis: int) -> tuple[NDArray[np.int8], Array]:
    """Symmetric, per output channel: the integers -127..127, and one scale a channel.

    The weights of inputs 2i and 2i + 1 add up to 128 at most. Processors with AVX2 and no VNNI
    multiply them with unsigned activations pair by pair, and clamp sums that do not fit into 16
    bits: 255 * 128 fits, so that a product is exact, and the same, on all of them. Where few
    weights are large this costs nothing; of a normal distribution the step becomes a third wider.
    """
    top, integers = np.zeros(weight.shape[axis], np.float32), np.empty(weight.shape, np.int8)
    for rows in _parts(len(weight), weight.shape[1]):
        largest = np.maximum(np.abs(weight[rows]).max(1 - axis), _largest_pair(weight, rows, axis))
        if axis == 0:
            top[rows] = largest
        else:
            np.maximum(top, largest, out=top)
    scale = (np.where(top > 0, top, 1) / 127).astype(np.float32)
    for rows in _parts(len(weight), weight.shape[1]):
        part = weight[rows] / (scale[rows, None] if axis == 0 else scale)
        integers[rows] = np.clip(np.rint(part, out=part), -127, 127, out=part)
    return integers, scale


def _largest_pair(weight: Array, rows: slice, axis: int) -> Array:
    """Of each channel, in ``rows`` of the weight as stored: the largest sum of two neighbours along
    the inputs."""
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
    the mean square of what each row is multiplied with."""
    inputs, outputs = weight.shape
    blocks = -(-inputs // block)
    share = np.zeros((blocks, block, 1), np.float32)
    share.reshape(-1)[:inputs] = importance
    integers = np.empty((blocks * block, outputs), np.int8)
    scales = np.empty((blocks, outputs), np.float32)
    for columns in _parts(outputs, inputs):
        padded = np.zeros((blocks * block, columns.stop - columns.start), np.float32)
        padded[:inputs] = weight[:, columns]
        padded = padded.reshape(blocks, block, -1)
        scale = _int4_scales(padded, share)
        padded /= scale
        np.clip(np.rint(padded, out=padded), -8, 7, out=padded)
        integers[:, columns], scales[:, columns] = padded.reshape(blocks * block, -1), scale[:, 0]
    return integers, scales


def _int4_scales(padded: Array, share: Array) -> Array:
    """The scales (blocks, 1, outputs) of least error for a weight (blocks, block, outputs)."""
    extreme = np.take_along_axis(padded, np.abs(padded).argmax(1)[:, None], 1)
    best, error, rounded = (
        np.ones_like(extreme),
        np.full_like(extreme, np.inf),
        np.empty_like(padded),
    )
    for steps in CANDIDATES:
        scale = np.where(extreme == 0, 1, extreme / np.float32(steps)).astype(np.float32)
        np.divide(padded, scale, out=rounded)
        np.clip(np.rint(rounded, out=rounded), -8, 7, out=rounded)
        rounded *= scale
        np.square(np.subtract(padded, rounded, out=rounded), out=rounded)
        rounded *= share
        loss = rounded.sum(1, keepdims=True)
        best, error = np.where(loss < error, scale, best), np.minimum(loss, error)
    return best


def _parts(count: int, width: int) -> Iterator[slice]:
    """Parts of ``count`` lines of ``width`` numbers, of nearly the same size."""
    parts = max(1, -(-count * width // NUMBERS))
    edges = [count * index // parts for index in range(parts + 1)]
    return (slice(start, stop) for start, stop in pairwise(edges) if start < stop)


def packed(integers: NDArray[np.int8], block: int) -> NDArray[np.uint8]:
    """(inputs, outputs) of -8..7 -> (outputs, blocks, block / 2): two a byte, the earlier one low,
    8 for zero."""
    pairs = (integers[0::2] + np.int8(8)).view(np.uint8) | (integers[1::2] + np.int8(8)).view(
        np.uint8
    ) << 4
    return np.ascontiguousarray(pairs.T).reshape(integers.shape[1], -1, block // 2)


class Rounded:
    """The integers and the scales of one weight: rounded once for both, each forgotten when it is
    taken."""

    def __init__(self, make: Callable[[], tuple[NDArray[np.int8], Array]]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._kept: dict[int, NDArray[Any]] = {}

    def take(self, part: int) -> NDArray[Any]:
        """Part 0: the integers; part 1: the scales."""
        with self._lock:
            if part not in self._kept:
                self._kept = dict(enumerate(self._make()))
            return self._kept.pop(part)
