"""The keys and values of what the decoder has read, in buffers of fixed capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.errors import PromptError

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Manifest


class KVCache:
    """Buffers for ``capacity`` tokens, of which the first ``length`` are filled. Rewinding only sets the number."""

    def __init__(self, manifest: Manifest) -> None:
        text, cache = manifest.text, manifest.cache
        self.capacity, self.length = cache.capacity, 0
        self._shared = cache.layout == "shared"
        shape = (
            (text.kv_heads, self.capacity, text.head_dim)
            if self._shared
            else (self.capacity, text.kv_heads * text.head_dim)
        )
        self._buffers = {
            f"{layer}.{part}": np.zeros((1, *shape), cache.dtype)
            for layer in range(text.layers)
            for part in ("key", "value")
        }
        self._past = {f"past.{name}": buffer for name, buffer in self._buffers.items()}
        self._present = {f"present.{name}": buffer for name, buffer in self._buffers.items()}

    def bindings(self, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The decoder graph's cache inputs and outputs for ``count`` more tokens."""
        end = self.length + count
        if end > self.capacity:
            raise PromptError(f"{end} tokens do not fit into the cache of {self.capacity}")
        if self._shared:
            lengths = {"seqlens_k": np.array([end - 1], np.int32), "total_sequence_length": np.array(end, np.int32)}
            return {**self._past, **lengths}, self._present
        past = {f"past.{name}": buffer[:, : self.length] for name, buffer in self._buffers.items()}
        return past, {f"present.{name}": buffer[:, self.length : end] for name, buffer in self._buffers.items()}

    def read(self, layer: int, part: str) -> np.ndarray[Any, Any]:
        """What the cache holds of "key" or "value" of a layer: (length, kv_heads * head_dim)."""
        buffer = self._buffers[f"{layer}.{part}"][0]
        if self._shared:
            return buffer[:, : self.length].transpose(1, 0, 2).reshape(self.length, buffer.shape[0] * buffer.shape[2])
        return buffer[: self.length]

    def append(self, count: int) -> None:
        """Count in ``count`` tokens that the decoder has written."""
        self.length += count

    def rewind(self, length: int) -> None:
        """Forget everything behind the first ``length`` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind a cache of {self.length} tokens to {length}")
        self.length = length
