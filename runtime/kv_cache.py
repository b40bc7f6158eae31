"""The keys and values of what the decoder has read, in buffers of fixed capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.errors import PromptError, SessionError
from vpt_edge.runtime.interface import whole_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.sessions import Array

    Floats = NDArray[np.float32]


def cache_bytes(manifest: Manifest, tokens: int) -> int:
    """What the keys and values of so many ``tokens`` take."""
    text = manifest.text
    numbers = 2 * text.layers * text.kv_heads * text.head_dim
    return tokens * numbers * np.dtype(manifest.cache.dtype).itemsize


def describe_cache(manifest: Manifest) -> str:
    """Its capacity, its dtype and the memory that it takes."""
    cache = manifest.cache
    size = cache_bytes(manifest, cache.capacity) / (1 << 20)
    each = cache_bytes(manifest, 1)
    return f"{cache.capacity:,} tokens of {cache.dtype}, {size:,.1f} MiB ({each:,} bytes a token)"


class KVCache:
    """Buffers for ``capacity`` tokens, of which the first ``length`` are filled.

    Rewinding only sets the number. A "shared" cache is written by the graph itself. Into an
    "appended" one the graph's new rows, which have a place of their own, are moved behind the past
    by one strided copy; nothing else of the cache is ever copied. ``zeros`` allocates where the
    session computes.
    """

    def __init__(self, manifest: Manifest, zeros: Callable[..., Array] = np.zeros) -> None:
        text = manifest.text
        cache = manifest.cache
        decoder = manifest.graphs["decoder"]
        self.capacity = cache.capacity
        self.length = 0
        self._shared = cache.layout == "shared"
        self._names = [
            f"{layer}.{part}" for layer in range(text.layers) for part in ("key", "value")
        ]
        count = len(self._names)
        width = text.kv_heads * text.head_dim
        self._new: Array | None = None
        try:
            if self._shared:
                shape = (count, text.kv_heads, self.capacity, text.head_dim)
                self._slab = zeros(shape, cache.dtype)
            else:
                chunk = decoder.bounds["sequence"][2]
                self._slab = zeros((count, whole_blocks(self.capacity), width), cache.dtype)
                self._new = zeros((count, whole_blocks(chunk), width), cache.dtype)
        except (MemoryError, ValueError) as error:  # numpy's, for more than there is or can be
            raise SessionError(
                f"there is no memory for a cache of {self.capacity} tokens: {error}",
                "export with fewer: vpt-export CHECKPOINT -o BUNDLE --cache-tokens TOKENS",
            ) from error
        self._views: dict[tuple[str, int], dict[str, Array]] = {}
        self._rotations = {
            tensor.name: np.zeros((self.capacity, text.head_dim // 2), np.float32)
            for tensor in decoder.inputs
            if tensor.name in ("cos", "sin") and tensor.shape[0] == "capacity"
        }

    def bindings(self, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The decoder graph's cache inputs and outputs for ``count`` more tokens."""
        end = self.length + count
        if end > self.capacity:
            raise PromptError(f"{end} tokens do not fit into the cache of {self.capacity}")
        if self._new is None:
            lengths = {
                "seqlens_k": np.array([end - 1], np.int32),
                "total_sequence_length": np.array(end, np.int32),
            }
            return {**self._view("past", self._slab), **lengths}, self._view("present", self._slab)
        past = self._view("past", self._slab, whole_blocks(self.length))
        filled = np.array(self.length, np.int32)
        return {**past, "filled": filled}, self._view("present", self._new, count)

    def rotations(self, cos: Floats, sin: Floats) -> dict[str, Any]:
        """The decoder graph's inputs that turn the next tokens by ``cos`` and ``sin``.

        They are (tokens, head_dim / 2), and given as they are, or to an attention that turns
        queries and keys itself in a table by slot.
        """
        rows = {"cos": cos, "sin": sin}
        for name, table in self._rotations.items():
            table[self.length : self.length + len(cos)] = rows[name]
        return {**rows, **self._rotations}

    def _view(self, side: str, slab: Array, rows: int = 0) -> dict[str, Array]:
        """Each layer's part of ``slab``: all of it, or its first ``rows``.

        In decoding the same arrays every time.
        """
        view = self._views.get((side, rows))
        if view is None:
            cut = slice(rows or None)
            view = {
                f"{side}.{name}": slab[index : index + 1, cut]
                for index, name in enumerate(self._names)
            }
            if side == "past" or rows <= 1:  # prefills are as long as they like
                self._views[side, rows] = view
        return view

    def append(self, count: int) -> None:
        """Take in ``count`` tokens that the decoder has computed."""
        if self._new is not None:
            slab: Any = self._slab  # numpy's or a device's: both on the same side
            slab[:, self.length : self.length + count] = self._new[:, :count]
        self.length += count

    def rewind(self, length: int) -> None:
        """Forget everything behind the first ``length`` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind a cache of {self.length} tokens to {length}")
        self.length = length

    def close(self) -> None:
        """Let go of the buffers."""
        self._slab = np.empty((0, 0))
        self._new = None
        self._views = {}
        self._rotations = {}

    def read(self, layer: int, part: str) -> np.ndarray[Any, Any]:
        """What the cache holds of "key" or "value" of a layer: (length, kv_heads * head_dim)."""
        index = self._names.index(f"{layer}.{part}")
        buffer = np.asarray(self._slab[index : index + 1])[0]
        if self._shared:
            by_token = buffer[:, : self.length].transpose(1, 0, 2)
            return by_token.reshape(self.length, buffer.shape[0] * buffer.shape[2])
        return buffer[: self.length]
