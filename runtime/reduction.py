"""Fewer visual tokens of a first view: DART (arXiv 2502.11494) on what the vision tower gives.

Tokens are kept for being unlike, not for being important: a few pivots, and of the others those
least alike to each pivot in turn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.context import Encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

LEAST_TOKENS = 64  # of a picture, below which none is dropped
PIVOTS = 8  # as many as the authors', who take half of them from the text


def count_tokens(tokens: int, share: float) -> int:
    """How many of a picture's visual ``tokens`` are shown at a ``share`` of them, rounded up."""
    count = math.ceil(round(share * tokens, 6))  # a rounding error is not a token
    return min(tokens, max(count, LEAST_TOKENS))


def choose_tokens(features: Floats, count: int) -> Integers:
    """The places (count,) of ``features`` (tokens, hidden) that stand for all, in their order.

    Pivots are those of the largest L1 norm. The picture alone decides, the question does not: the
    next question about it finds the same tokens in the cache.
    """
    loudest = np.argsort(-np.abs(features).sum(axis=1), kind="stable")
    pivots = loudest[: min(PIVOTS, count)]
    lengths = np.sqrt(np.einsum("th,th->t", features, features))
    lengths = np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
    likeness = features @ (features[pivots] / lengths[pivots]).T / lengths  # (tokens, pivots)
    chosen = np.zeros(len(features), np.bool_)
    chosen[pivots] = True
    quota = math.ceil((count - len(pivots)) / len(pivots))
    for column in likeness.T:
        remaining = count - np.count_nonzero(chosen)
        order = np.argsort(np.where(chosen, np.inf, column), kind="stable")
        chosen[order[: min(quota, remaining)]] = True
    return np.flatnonzero(chosen)


def reduce_tokens(encoded: Encoded, share: float) -> Encoded:
    """``encoded``, a whole picture, with a ``share`` of its visual tokens; itself where that is
    all of them.
    """
    count = count_tokens(encoded.tokens, share)
    if count == encoded.tokens:
        return encoded
    places = choose_tokens(encoded.features, count)
    deep = None if encoded.deep is None else encoded.deep[:, places]
    return Encoded(encoded.features[places], encoded.grid, deep, places)
