"""How each target writes attention into a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

LayerCache = tuple[Tensor, Tensor]  # keys and values of one layer
Rope = tuple[Tensor, Tensor]  # cos and sin (seq, head_dim / 2), or of what ``causal`` rotates by

# Of a sequence that is cut into windows: the position in each slot of a window (windows, slots),
# the slot of each position (seq), counted over all windows, and how many of the first slots of a
# window are taken (windows); the rest may hold any position.
Windows = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Heads:
    """How many heads the queries have, and the keys and values: as many, or a divisor of it."""

    query: int
    kv: int


class Attention(Protocol):
    """Attention of ``Heads`` that are given to the constructor; ``TARGETS`` has one a target."""

    def full(self, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None = None) -> Tensor:
        """Every position sees every other: (batch, seq, heads * dim) -> the same.

        Queries and keys are rotated here by ``rope``, where there is one.
        """

    def windowed(self, q: Tensor, k: Tensor, v: Tensor, rope: Rope, windows: Windows) -> Tensor:
        """Every position sees those of its window: (1, seq, heads * dim) -> the same."""

    def visibility(
        self, seq: int, past: LayerCache | None, lengths: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """What ``causal`` needs to know of who sees whom, computed once for all layers."""

    def causal(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rope: Rope,
        past: LayerCache | None,
        visibility: tuple[Tensor, ...],
    ) -> tuple[Tensor, LayerCache]:
        """Grouped-query attention behind ``past``, of queries and keys that are rotated here.

        Returns the output and what the cache takes in.
        """


AttentionType = Callable[[Heads], Attention]


class PlainAttention:
    """Plain operators: the numerics of reference in eager torch, and what TensorRT 10.3's parser
    takes.

    The cache is sequence-major: past keys and values (batch, past, kv_heads * dim); the new ones
    are returned alone, in the same layout, so that a runtime moves them right behind the past.
    ``lengths``: how many rows of the past are filled () int32; none where all are.
    """

    def __init__(self, heads: Heads) -> None:
        self.heads = heads

    def rotary(self, x: Tensor, rope: Rope, heads: int) -> Tensor:
        """Rotate the halves of each head: x (batch, seq, heads * dim)."""
        batch, seq, width = x.shape
        half = width // heads // 2
        halves = x.float().view(batch, seq, heads, 2 * half)
        first = halves[..., :half]
        second = halves[..., half:]
        cos = rope[0][:, None]  # (seq, 1, dim / 2)
        sin = rope[1][:, None]
        rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        return rotated.view(batch, seq, width).to(x.dtype)

    def full(self, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None = None) -> Tensor:
        if rope is not None:
            q = self.rotary(q, rope, self.heads.query)
            k = self.rotary(k, rope, self.heads.kv)
        q = split_heads(q, self.heads.query)
        k = split_heads(k, self.heads.kv)
        v = split_heads(v, self.heads.kv)
        return self.product(q, k, v).transpose(1, 2).flatten(2)

    def windowed(self, q: Tensor, k: Tensor, v: Tensor, rope: Rope, windows: Windows) -> Tensor:
        slots, places, lengths = windows
        q = self.rotary(q, rope, self.heads.query)
        k = self.rotary(k, rope, self.heads.kv)
        q, k, v = (split_heads(take_rows(x, slots), self.heads.query) for x in (q, k, v))
        empty = torch.arange(slots.shape[1]) >= lengths[:, None]  # (windows, slots)
        scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()
        scores = scores.masked_fill(empty[:, None, None], torch.finfo(torch.float32).min)
        out = scores.softmax(-1).to(v.dtype) @ v
        return take_rows(out.transpose(1, 2).flatten(2), places)[None]

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(dim)) v, all (batch, heads, seq, dim)."""
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return scores.float().softmax(-1).to(v.dtype) @ v

    def visibility(
        self, seq: int, past: LayerCache | None, lengths: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """The keys (seq, past + seq) that a query does not see: those behind it, and empty rows of
        the past.
        """
        before = 0 if past is None else past[0].shape[1]
        query = torch.arange(seq)[:, None] + before
        key = torch.arange(before + seq)[None, :]
        hidden = key > query
        if not lengths:
            return (hidden,)
        return (hidden | ((key >= lengths[0]) & (key < before)),)

    def causal(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rope: Rope,
        past: LayerCache | None,
        visibility: tuple[Tensor, ...],
    ) -> tuple[Tensor, LayerCache]:
        q = self.rotary(q, rope, self.heads.query)
        k = self.rotary(k, rope, self.heads.kv)
        keys, values = join_cache(past, k, v)
        # Queries (batch, kv_heads, group, seq, dim), keys and values (batch, kv_heads, 1, all, dim)
        group = self.heads.query // self.heads.kv
        q = q.unflatten(-1, (self.heads.kv, group, -1)).permute(0, 2, 3, 1, 4)
        keys = split_heads(keys, self.heads.kv)[:, :, None]
        values = split_heads(values, self.heads.kv)[:, :, None]
        scores = ((q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)).float()
        scores = scores.masked_fill(visibility[0], torch.finfo(torch.float32).min)
        out = scores.softmax(-1).to(values.dtype) @ values
        return out.permute(0, 3, 1, 2, 4).flatten(2), (k, v)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, seq, heads * dim) -> (batch, heads, seq, dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """The rows of x (batch, seq, width), counted through all of the batch, that ``index`` names.

    An index in brackets would be exported as transpositions around a GatherND.
    """
    return F.embedding(index, x.flatten(0, 1))


def join_cache(past: LayerCache | None, k: Tensor, v: Tensor) -> LayerCache:
    """All keys and values (batch, past + seq, kv_heads * dim)."""
    if past is None:
        return k, v
    return torch.cat((past[0], k), 1), torch.cat((past[1], v), 1)


class OnnxRuntimeAttention:
    """Contrib operators of ONNX Runtime. Past and present of the cache are one buffer.

    Cache: keys and values (batch, kv_heads, capacity, head_dim); ``lengths``: seqlens_k (batch,)
    int32, the last filled index, and total_sequence_length () int32. In float32 attention rotates
    too: ``rope`` (capacity, head_dim / 2) is that of every slot of the cache. In eager torch the
    results are dummies.
    """

    def __init__(self, heads: Heads) -> None:
        self.heads = heads

    def rotary(self, x: Tensor, rope: Rope, heads: int) -> Tensor:
        # cos and sin hold these very positions: they are not a table
        first = torch.zeros(1, dtype=torch.int64)
        wide = x.float()
        rotated = _contrib("RotaryEmbedding", [wide, first, *rope], {"num_heads": heads}, [wide])
        return rotated[0].to(x.dtype)

    def full(self, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None = None) -> Tensor:
        heads = self.heads.query
        if rope is not None:
            q = self.rotary(q, rope, heads)
            k = self.rotary(k, rope, heads)
        return _contrib("MultiHeadAttention", [q, k, v], {"num_heads": heads}, [q])[0]

    def windowed(self, q: Tensor, k: Tensor, v: Tensor, rope: Rope, windows: Windows) -> Tensor:
        slots, places, lengths = windows
        heads = self.heads.query
        q = self.rotary(q, rope, heads)
        k = self.rotary(k, rope, heads)
        q, k, v = (take_rows(x, slots) for x in (q, k, v))  # (windows, slots, heads * dim)
        inputs = [q, k, v, None, lengths]  # no bias
        out = _contrib("MultiHeadAttention", inputs, {"num_heads": heads}, [q])[0]
        return take_rows(out, places)[None]

    def visibility(
        self, seq: int, past: LayerCache | None, lengths: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return lengths[:2]

    def causal(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rope: Rope,
        past: LayerCache | None,
        visibility: tuple[Tensor, ...],
    ) -> tuple[Tensor, LayerCache]:
        assert past is not None, "the cache's buffers are inputs of the graph"
        attributes = {"num_heads": self.heads.query, "kv_num_heads": self.heads.kv}
        table = list[Tensor]()
        if q.dtype == torch.float32:
            attributes["do_rotary"] = 1
            table = [*rope]
        else:  # it would rotate in float16
            q = self.rotary(q, rope, self.heads.query)
            k = self.rotary(k, rope, self.heads.kv)
        inputs = [q, k, v, *past, *visibility, *table]
        out, key, value = _contrib("GroupQueryAttention", inputs, attributes, [q, *past])
        return out, (key, value)


def _contrib(
    name: str, inputs: Sequence[Tensor | None], attributes: dict[str, int], like: list[Tensor]
) -> tuple[Tensor, ...]:
    """An operator of ONNX Runtime, whose outputs have the dtypes and shapes of ``like``."""
    dtypes = [tensor.dtype for tensor in like]
    shapes = [tensor.shape for tensor in like]
    outputs = torch.onnx.ops.symbolic_multi_out(
        f"com.microsoft::{name}",
        inputs,
        attrs=cast("dict[str, Any]", attributes),
        dtypes=dtypes,
        shapes=shapes,
        version=1,
    )
    return tuple(outputs)


@dataclass(frozen=True)
class Target:
    """How graphs are written for one inference library.

    ``layout`` is the cache's (see the bundle's cache); ``slot_rope``: whether float32 attention
    rotates by the cache's slots, and is given cos and sin of each.
    """

    attention: AttentionType
    layout: str
    slot_rope: bool


TARGETS = {
    "onnxruntime": Target(OnnxRuntimeAttention, "shared", slot_rope=True),
    "tensorrt": Target(PlainAttention, "appended", slot_rope=False),
}
