"""What lies in each visual token: targets of the dense supervision, -100 where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from signs.sizes import TOKEN

from vpt_edge.live.signs.words import CHARACTERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

NO_LETTER = len(CHARACTERS)
COLUMNS = 4  # of a token, each of which holds the middle of one letter at most
UNKNOWN = -100


def find_tokens(centres: NDArray[Any], grid: tuple[int, int]) -> Indices:
    """Centres (..., 2) in pixels -> the token that each lies in, of ``grid`` rows and columns;
    UNKNOWN outside.
    """
    rows, columns = grid
    known = np.nan_to_num(centres, nan=-1.0)
    x = np.floor(known[..., 0] / TOKEN).astype(np.int64)
    y = np.floor(known[..., 1] / TOKEN).astype(np.int64)
    is_inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    return np.where(is_inside, y * columns + x, UNKNOWN)


def locate_letters(centres: NDArray[Any], text: NDArray[Any], grid: tuple[int, int]) -> Indices:
    """Centres (batch, letters, 2) and characters (batch, letters) -> (batch, tokens, COLUMNS): the
    letter whose middle lies in each column of each token.
    """
    tokens = find_tokens(centres, grid)
    target = np.full((len(centres), grid[0] * grid[1], COLUMNS), NO_LETTER, np.int64)
    row, letter = np.nonzero((tokens >= 0) & (text >= 0))
    within = centres[row, letter, 0] % TOKEN
    target[row, tokens[row, letter], (within * COLUMNS / TOKEN).astype(int)] = text[row, letter]
    return target


def own_letters(centres: NDArray[Any], text: NDArray[Any], grid: tuple[int, int]) -> Indices:
    """(batch, letters): the token that each character of a text lies in, and the number of tokens
    for one behind the text's end.
    """
    return np.where(text >= 0, find_tokens(centres, grid), grid[0] * grid[1])
