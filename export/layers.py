"""The torch definitions of Qwen2-VL's graphs and VPT's projector, made to be exported.

Parameter names are those of the checkpoint below the graph's prefix (``visual.``, ``model.``, ...),
so that a ``state_dict`` moves between the two without a table of names; where a graph keeps a
tensor in another shape, the module's ``derived`` says how it comes from the checkpoint's. All
modules take a leading batch dimension; the exported graphs fix it to one.

The residual stream, norms, rotary embedding and softmax compute in float32 in every precision,
whatever dtype their weights are stored in. A ``Linear`` or ``Conv2d`` computes in the dtype of its
weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from vpt_edge.export.config_files import TextConfig, VisionConfig

Derived = dict[str, Callable[[Tensor], Tensor]]
Cache = tuple[Tensor, Tensor]  # keys and values of one layer
Rope = tuple[
    Tensor, Tensor
]  # cos and sin (seq, head_dim / 2), of the new tokens or as the attention wants them


class Parts(nn.Module):
    """Groups modules and parameters as the checkpoint's names do."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Linear(nn.Linear):
    """``y = x W^T + b`` in the dtype of ``W``; the result keeps that dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """A convolution in the dtype of its weight; the result is float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).float()


class LayerNorm(nn.LayerNorm):
    """A layer norm over the last axis, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(
            x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps
        )


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()


class Attention(Protocol):
    """How attention is written into a graph; one object for each target (see ``graphs.ATTENTION``)."""

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
        """Rotate the halves of each head: x (batch, seq, heads * dim), cos and sin (seq, dim / 2)."""

    def full(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """Every position sees every other: (batch, seq, heads * dim) -> the same."""

    def visibility(
        self, seq: int, past: Cache | None, lengths: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """What ``causal`` needs to know of who sees whom, computed once for all layers."""

    def causal(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rope: Rope,
        past: Cache | None,
        visibility: tuple[Tensor, ...],
        heads: int,
        kv_heads: int,
    ) -> tuple[Tensor, Cache]:
        """Grouped-query attention behind ``past``, of queries and keys that are rotated here.

        Returns the output and what the cache takes in.
        """


class PlainAttention:
    """Plain operators: the numerics of reference in eager torch, and what TensorRT 10.3's parser
    takes.

    The cache is sequence-major: past keys and values (batch, past, kv_heads * dim); the new ones
    are returned alone, in the same layout, so that a runtime moves them right behind the past.
    ``lengths``: how many rows of the past are filled () int32; none where all are."""

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
        batch, seq, width = x.shape
        half = width // heads // 2
        halves = x.float().view(batch, seq, heads, 2 * half)
        first, second = halves[..., :half], halves[..., half:]
        cos, sin = cos[:, None], sin[:, None]  # (seq, 1, dim / 2)
        rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        return rotated.view(batch, seq, width).to(x.dtype)

    def full(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        q, k, v = (
            t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)
        )  # (batch, heads, seq, dim)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return (scores.float().softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)

    def visibility(
        self, seq: int, past: Cache | None, lengths: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """The keys (seq, past + seq) that a query does not see: those behind it, and empty rows of
        the past."""
        before = 0 if past is None else past[0].shape[1]
        query, key = torch.arange(seq)[:, None] + before, torch.arange(before + seq)[None, :]
        hidden = key > query
        return (hidden | ((key >= lengths[0]) & (key < before)),) if lengths else (hidden,)

    def causal(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rope: Rope,
        past: Cache | None,
        visibility: tuple[Tensor, ...],
        heads: int,
        kv_heads: int,
    ) -> tuple[Tensor, Cache]:
        q, k = self.rotary(q, *rope, heads), self.rotary(k, *rope, kv_heads)
        keys, values = (
            (k, v) if past is None else (torch.cat((past[0], k), 1), torch.cat((past[1], v), 1))
        )
        group = heads // kv_heads
        q = q.unflatten(-1, (kv_heads, group, -1)).permute(
            0, 2, 3, 1, 4
        )  # (batch, kv_heads, group, seq, dim)
        keys, values = (
            t.unflatten(-1, (kv_heads, -1)).transpose(1, 2)[:, :, None] for t in (keys, values)
        )
        scores = (
            (q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        ).float()  # (batch, kv_heads, group, seq, total)
        out = (
            scores.masked_fill(visibility[0], torch.finfo(torch.float32).min)
            .softmax(-1)
            .to(values.dtype)
            @ values
        )
        return out.permute(0, 3, 1, 2, 4).flatten(2), (k, v)


class VisionEncoder(nn.Module):
    """Qwen2-VL's vision tower for one picture a batch row.

    ``patches`` (batch, patches, 1176) float32 in merge order, ``cos`` and ``sin`` (patches,
    head_dim / 2) -> features (batch, patches / 4, hidden) float32."""

    derived: Derived = {"patch_embed.proj.weight": lambda weight: weight.flatten(1)}

    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        self.patch_embed = Parts()
        self.patch_embed.proj = Linear(config.patch_width, config.embed_dim, bias=False)
        self.blocks = nn.ModuleList(VisionBlock(config, attention) for _ in range(config.depth))
        self.merger = PatchMerger(config)

    def forward(self, patches: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = self.patch_embed.proj(patches).float()
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.merger(x)


class VisionBlock(nn.Module):
    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.embed_dim, eps=1e-6)
        self.norm2 = LayerNorm(config.embed_dim, eps=1e-6)
        self.attn = Parts()
        self.attn.qkv = Linear(config.embed_dim, 3 * config.embed_dim)
        self.attn.proj = Linear(config.embed_dim, config.embed_dim)
        self.mlp = Parts()
        self.mlp.fc1 = Linear(config.embed_dim, config.mlp_dim)
        self.mlp.fc2 = Linear(config.mlp_dim, config.embed_dim)
        self.attention, self.heads = attention, config.num_heads

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        qkv, width = self.attn.qkv(self.norm1(x)), x.shape[-1]
        q, k, v = (qkv[..., start : start + width] for start in (0, width, 2 * width))
        q, k = (self.attention.rotary(t, cos, sin, self.heads) for t in (q, k))
        x = x + self.attn.proj(self.attention.full(q, k, v, self.heads)).float()
        h = self.mlp.fc1(self.norm2(x))
        return x + self.mlp.fc2(h * torch.sigmoid(1.702 * h)).float()  # quick GELU


class PatchMerger(nn.Module):
    """Four neighbouring patches become one visual token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.embed_dim * config.merge_size**2
        self.ln_q = LayerNorm(config.embed_dim, eps=1e-6)
        self.mlp = nn.Sequential(
            Linear(self.width, self.width), nn.GELU(), Linear(self.width, config.hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.ln_q(x).view(x.shape[0], -1, self.width)).float()


class Decoder(nn.Module):
    """The language model without its embedding table, for a prefill of any length as for a single
    step.

    ``embeds`` (batch, seq, hidden) float32, ``cos`` and ``sin`` float32 (see ``Rope``), layer by
    layer what the attention keeps of the past, and the lengths that it may need to know -> logits
    (batch, vocabulary) and post-norm hidden state (batch, hidden) of the LAST position, float32,
    with ``picks`` the likeliest token (batch,) int64, and the layers' new keys and values."""

    derived: Derived = {}

    def __init__(self, config: TextConfig, attention: Attention, picks: bool = False) -> None:
        super().__init__()
        self.attention, self.picks = attention, picks
        self.layers = nn.ModuleList(
            DecoderLayer(config, attention) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)

    def residual(
        self,
        embeds: Tensor,
        cos: Tensor,
        sin: Tensor,
        past: Sequence[Cache] = (),
        lengths: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, list[Cache]]:
        """The residual stream (batch, seq, hidden) behind the last layer, BEFORE the final norm,
        and the cache."""
        x, present = embeds, []
        visibility = self.attention.visibility(embeds.shape[1], past[0] if past else None, lengths)
        for index, layer in enumerate(self.layers):
            x, new = layer(x, cos, sin, past[index] if past else None, visibility)
            present.append(new)
        return x, present

    def forward(
        self,
        embeds: Tensor,
        cos: Tensor,
        sin: Tensor,
        past: Sequence[Cache] = (),
        lengths: tuple[Tensor, ...] = (),
    ) -> tuple[Any, ...]:
        x, present = self.residual(embeds, cos, sin, past, lengths)
        hidden = self.norm(x[:, -1])
        logits = self.lm_head(hidden).float()
        return (
            (logits, hidden, logits.argmax(-1), present)
            if self.picks
            else (logits, hidden, present)
        )


class DecoderLayer(nn.Module):
    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        size, kv_size = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.input_layernorm = RMSNorm(size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(size, config.rms_norm_eps)
        self.self_attn = Parts()
        self.self_attn.q_proj = Linear(size, size)
        self.self_attn.k_proj = Linear(size, kv_size)
        self.self_attn.v_proj = Linear(size, kv_size)
        self.self_attn.o_proj = Linear(size, size, bias=False)
        self.mlp = Parts()
        self.mlp.gate_proj = Linear(size, config.intermediate_size, bias=False)
        self.mlp.up_proj = Linear(size, config.intermediate_size, bias=False)
        self.mlp.down_proj = Linear(config.intermediate_size, size, bias=False)
        self.attention, self.heads, self.kv_heads = (
            attention,
            config.num_attention_heads,
            config.num_key_value_heads,
        )

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        past: Cache | None,
        visibility: tuple[Tensor, ...],
    ) -> tuple[Tensor, Cache]:
        h = self.input_layernorm(x)
        q, k, v = self.self_attn.q_proj(h), self.self_attn.k_proj(h), self.self_attn.v_proj(h)
        out, new = self.attention.causal(
            q, k, v, (cos, sin), past, visibility, self.heads, self.kv_heads
        )
        x = x + self.self_attn.o_proj(out).float()
        h = self.post_attention_layernorm(x)
        return x + self.mlp.down_proj(
            F.silu(self.mlp.gate_proj(h)) * self.mlp.up_proj(h)
        ).float(), new


class Projector(nn.Module):
    """What the condition does to re-encoded features (PROTOCOL 5.1): c = W·LN(h) + b, f + (f·c)·c.

    ``features`` (batch, tokens, hidden) and ``condition`` (batch, hidden), the post-norm hidden
    state at the action's start token -> (batch, tokens, hidden). No softmax and no scaling, as the
    authors have it."""

    derived: Derived = {}

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.layernorm_condition = LayerNorm(hidden_size, eps=1e-5)
        self.linear_condition = Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        c = self.linear_condition(self.layernorm_condition(condition)).float()[
            :, None
        ]  # (batch, 1, hidden)
        return features + (features * c).sum(-1, keepdim=True) * c
