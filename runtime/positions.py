"""Rotary positions: M-RoPE for the language model, rows and columns for the vision encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.image import MERGE

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mrope_positions(
    ids: Sequence[int] | NDArray[np.int64], grids: Sequence[tuple[int, int]], image_pad: int
) -> NDArray[np.int64]:
    """Positions (3, len(ids)) of time, row and column (PROTOCOL 5.3).

    ``grids`` holds (rows, columns) of patches for each run of ``image_pad``, in order. Only those
    runs are three-dimensional: the pads of a re-encode are plain text. A prefix's positions never
    depend on what follows."""
    tokens = np.asarray(ids, np.int64)
    positions = np.empty((3, len(tokens)), np.int64)
    pads = np.flatnonzero(tokens == image_pad)
    done, start, used = 0, 0, 0
    for rows, columns in grids:
        rows, columns = rows // MERGE, columns // MERGE
        first = int(pads[used])
        text = first - done
        positions[:, done:first] = np.arange(start, start + text)
        start += text
        done = first + rows * columns
        place = np.arange(rows * columns)
        positions[:, first:done] = start + np.stack(
            (np.zeros_like(place), place // columns, place % columns)
        )
        start += max(rows, columns)
        used += rows * columns
    positions[:, done:] = np.arange(start, start + len(tokens) - done)
    return positions


def mrope(
    positions: NDArray[np.int64], head_dim: int, theta: float, section: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine and sine, (seq, head_dim / 2) float32 each, of ``positions`` (3, seq).

    ``section`` counts the frequencies that turn with time, row and column.
    """
    frequencies = 1.0 / theta ** (
        np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    )
    axis = np.repeat(np.arange(3), section)
    angles = np.ascontiguousarray(positions[axis].T, np.float32) * frequencies.astype(np.float32)
    return np.cos(angles), np.sin(angles)


def vision_rope(
    grid: tuple[int, int], head_dim: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine and sine, (patches, head_dim / 2) float32 each, of a picture's patches in merge order."""
    rows, columns = grid
    merged = (rows // MERGE, MERGE, columns // MERGE, MERGE)
    row, column = (
        axis.reshape(merged).transpose(0, 2, 1, 3).reshape(-1)
        for axis in np.indices((rows, columns))
    )
    quarter = np.arange(0, head_dim // 2, 2, dtype=np.float32) / np.float32(head_dim // 2)
    frequencies = (1.0 / 10000.0**quarter).astype(np.float32)
    angles = np.concatenate(
        (np.outer(row, frequencies), np.outer(column, frequencies)), axis=1
    ).astype(np.float32)
    return np.cos(angles), np.sin(angles)
