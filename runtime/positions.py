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
    them. The tokens of a re-encode are plain text. Of a picture that was reduced the tokens have
    the positions, and the text behind it, that they have where all of it is shown. A prefix's
    positions never depend on what follows.
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
        times = visual.encoded.times or tuple(range(frames))
        block = np.indices((frames, rows // merge, columns // merge)).reshape(3, -1)
        block[0] = np.asarray(times)[block[0]]
        if visual.encoded.places is not None:
            block = block[:, visual.encoded.places]
        positions[:, visual.start : done] = start + block
        start += max(times[-1] + 1, rows // merge, columns // merge)
    positions[:, done:] = np.arange(start, start + length - done)
    return positions


def mrope(
    positions: Integers,
    head_dim: int,
    theta: float,
    section: Sequence[int],
    interleaved: bool = False,
) -> tuple[Floats, Floats]:
    """Cosine and sine, (seq, head_dim / 2) float32 each, of ``positions`` (3, seq).

    ``section`` counts the frequencies that turn with time, row and column: one group behind the
    other, or ``interleaved``, where row and column take every third while they have any left.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = (1.0 / theta**exponents).astype(np.float32)
    axis = np.repeat(np.arange(3), section)
    if interleaved:
        axis = np.zeros(head_dim // 2, np.int64)
        for each in (1, 2):
            axis[each : 3 * section[each] : 3] = each
    angles = np.ascontiguousarray(positions[axis].T, np.float32) * frequencies
    return np.cos(angles), np.sin(angles)


def vision_rope(rows: int, columns: int, merge: int, head_dim: int) -> tuple[Floats, Floats]:
    """Cosine and sine, (patches, head_dim / 2) float32 each, of patches in merge order."""
    row, column = _merge_order(rows, columns, merge)
    quarter = np.arange(0, head_dim // 2, 2, dtype=np.float32) / np.float32(head_dim // 2)
    frequencies = (1.0 / 10000.0**quarter).astype(np.float32)
    angles = np.concatenate((np.outer(row, frequencies), np.outer(column, frequencies)), axis=1)
    angles = angles.astype(np.float32)
    return np.cos(angles), np.sin(angles)


def table_positions(rows: int, columns: int, merge: int, side: int) -> tuple[Integers, Floats]:
    """Where patches in merge order lie in a square table of ``side`` rows and columns that is laid
    over the picture, corner on corner.

    Returns the four places of the table that each lies between (patches, 4) int64, and its shares
    of them (patches, 4) float32: bilinear, as by transformers with ``align_corners``.
    """
    row, column = _merge_order(rows, columns, merge)
    row_taps, row_shares = _taps(row, rows, side)
    column_taps, column_shares = _taps(column, columns, side)
    taps = row_taps[:, :, None] * side + column_taps[:, None]
    shares = row_shares[:, :, None] * column_shares[:, None]
    return taps.reshape(-1, 4), shares.reshape(-1, 4)


def _taps(index: Integers, size: int, side: int) -> tuple[Integers, Floats]:
    """The two places of ``side`` between which each ``index`` of ``size`` lies, and their shares:
    (patches, 2) each.
    """
    place = index.astype(np.float32) * np.float32(side - 1) / np.float32(max(size - 1, 1))
    floor = np.floor(place)
    taps = floor.astype(np.int64)[:, None] + np.arange(2)
    distances = np.abs((place - floor)[:, None] - np.arange(2, dtype=np.float32))
    return np.minimum(taps, side - 1), 1 - distances


def _merge_order(rows: int, columns: int, merge: int) -> tuple[Integers, Integers]:
    """The row and column (patches,) of patches in merge order."""
    merged = (rows // merge, merge, columns // merge, merge)
    row, column = np.indices((rows, columns))
    row = row.reshape(merged).transpose(0, 2, 1, 3).reshape(-1)
    column = column.reshape(merged).transpose(0, 2, 1, 3).reshape(-1)
    return row, column
