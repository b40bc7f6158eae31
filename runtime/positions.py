"""Rotary positions: M-RoPE for the language model, rows and columns for a vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.context import Visual

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]


def mrope_positions(length: int, visuals: Sequence[Visual], merge: int) -> Integers:
    """Positions (3, length) of time, row and column (PROTOCOL 5.3).

    Only visual tokens with a grid are three-dimensional; ``merge`` patches a side become one of
    them. The tokens of a re-encode are plain text. A prefix's positions never depend on what
    follows.
    """
    positions = np.empty((3, length), np.int64)
    done = 0
    start = 0
    for visual in visuals:
        if visual.encoded.grid is None:
            continue
        text = visual.start - done
        positions[:, done : visual.start] = np.arange(start, start + text)
        start += text
        done = visual.end
        frames, rows, columns = visual.encoded.grid
        block = np.indices((frames, rows // merge, columns // merge)).reshape(3, -1)
        positions[:, visual.start : done] = start + block
        start += max(frames, rows // merge, columns // merge)
    positions[:, done:] = np.arange(start, start + length - done)
    return positions


def mrope(
    positions: Integers, head_dim: int, theta: float, section: Sequence[int]
) -> tuple[Floats, Floats]:
    """Cosine and sine, (seq, head_dim / 2) float32 each, of ``positions`` (3, seq).

    ``section`` counts the frequencies that turn with time, row and column.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = (1.0 / theta**exponents).astype(np.float32)
    axis = np.repeat(np.arange(3), section)
    angles = np.ascontiguousarray(positions[axis].T, np.float32) * frequencies
    return np.cos(angles), np.sin(angles)


def vision_rope(rows: int, columns: int, merge: int, head_dim: int) -> tuple[Floats, Floats]:
    """Cosine and sine, (patches, head_dim / 2) float32 each, of patches in merge order."""
    merged = (rows // merge, merge, columns // merge, merge)
    row, column = np.indices((rows, columns))
    row = row.reshape(merged).transpose(0, 2, 1, 3).reshape(-1)
    column = column.reshape(merged).transpose(0, 2, 1, 3).reshape(-1)
    quarter = np.arange(0, head_dim // 2, 2, dtype=np.float32) / np.float32(head_dim // 2)
    frequencies = (1.0 / 10000.0**quarter).astype(np.float32)
    angles = np.concatenate((np.outer(row, frequencies), np.outer(column, frequencies)), axis=1)
    angles = angles.astype(np.float32)
    return np.cos(angles), np.sin(angles)
