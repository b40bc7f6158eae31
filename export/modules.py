"""The torch definitions of the graphs, made to be exported.

Parameter names are those of the checkpoint below the graph's prefix (``visual.``, ``model.``, ...), so that a
``state_dict`` moves between the two without a table of names; where a graph keeps a tensor in another shape, the
module's ``derived`` says how it comes from the checkpoint's. All modules take a leading batch dimension; the
exported graphs fix it to one.

The residual stream, norms, rotary embedding and softmax compute in float32 in every precision, whatever dtype their
weights are stored in. A ``Linear`` or ``Conv2d`` computes in the dtype of its weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from vpt_edge.export.checkpoint import Dinov2Config, SamConfig, TextConfig, VisionConfig

Derived = dict[str, Callable[[Tensor], Tensor]]
Cache = tuple[Tensor, Tensor]  # keys and values of one layer


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
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)


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

    def causal(
        self, q: Tensor, k: Tensor, v: Tensor, past: Cache | None, lengths: tuple[Tensor, ...], heads: int, kv_heads: int
    ) -> tuple[Tensor, Cache]:
        """Grouped-query attention behind ``past``; returns the output and what the cache takes in."""


class PlainAttention:
    """Plain operators: the numerics of reference in eager torch, and what TensorRT 10.3's parser takes.

    The cache is sequence-major: past keys and values (batch, past, kv_heads * dim); the new ones are returned alone,
    in the same layout, so that a runtime writes them right behind the past.
    """

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
        batch, seq, width = x.shape
        half = width // heads // 2
        halves = x.float().view(batch, seq, heads, 2 * half)
        first, second = halves[..., :half], halves[..., half:]
        cos, sin = cos[:, None], sin[:, None]  # (seq, 1, dim / 2)
        rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        return rotated.view(batch, seq, width).to(x.dtype)

    def full(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))  # (batch, heads, seq, dim)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return (scores.float().softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)

    def causal(
        self, q: Tensor, k: Tensor, v: Tensor, past: Cache | None, lengths: tuple[Tensor, ...], heads: int, kv_heads: int
    ) -> tuple[Tensor, Cache]:
        keys, values = (k, v) if past is None else (torch.cat((past[0], k), 1), torch.cat((past[1], v), 1))
        seq, total, group = q.shape[1], keys.shape[1], heads // kv_heads
        q = q.unflatten(-1, (kv_heads, group, -1)).permute(0, 2, 3, 1, 4)  # (batch, kv_heads, group, seq, dim)
        keys, values = (t.unflatten(-1, (kv_heads, -1)).transpose(1, 2)[:, :, None] for t in (keys, values))
        scores = ((q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)).float()  # (batch, kv_heads, group, seq, total)
        place = torch.arange(total, device=q.device)
        hidden = place[None, :] > place[total - seq :, None]  # a key behind its query
        out = scores.masked_fill(hidden, torch.finfo(torch.float32).min).softmax(-1).to(values.dtype) @ values
        return out.permute(0, 3, 1, 2, 4).flatten(2), (k, v)


class VisionEncoder(nn.Module):
    """Qwen2-VL's vision tower for one picture a batch row.

    ``patches`` (batch, patches, 1176) float32 in merge order, ``cos`` and ``sin`` (patches, head_dim / 2) ->
    features (batch, patches / 4, hidden) float32.
    """

    derived: Derived = {"patch_embed.proj.weight": lambda weight: weight.flatten(1)}

    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = Linear(config.patch_width, config.embed_dim, bias=False)
        self.blocks = nn.ModuleList(VisionBlock(config, attention) for _ in range(config.depth))
        self.merger = PatchMerger(config)

    def forward(self, patches: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = self.patch_embed.proj(patches).float()
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.merger(x)  # type: ignore[no-any-return]


class VisionBlock(nn.Module):
    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.embed_dim, eps=1e-6)
        self.norm2 = LayerNorm(config.embed_dim, eps=1e-6)
        self.attn = nn.Module()
        self.attn.qkv = Linear(config.embed_dim, 3 * config.embed_dim)
        self.attn.proj = Linear(config.embed_dim, config.embed_dim)
        self.mlp = nn.Module()
        self.mlp.fc1 = Linear(config.embed_dim, config.mlp_dim)
        self.mlp.fc2 = Linear(config.mlp_dim, config.embed_dim)
        self.attention, self.heads = attention, config.num_heads

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        qkv, width = self.attn.qkv(self.norm1(x)), x.shape[-1]
        q, k, v = (qkv[..., start : start + width] for start in (0, width, 2 * width))
        q, k = (self.attention.rotary(t, cos, sin, self.heads) for t in (q, k))
        x = x + self.attn.proj(self.attention.full(q, k, v, self.heads)).float()
        h = self.mlp.fc1(self.norm2(x))
        return x + self.mlp.fc2(h * torch.sigmoid(1.702 * h)).float()  # type: ignore[no-any-return]  # quick GELU


class PatchMerger(nn.Module):
    """Four neighbouring patches become one visual token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.embed_dim * config.merge_size**2
        self.ln_q = LayerNorm(config.embed_dim, eps=1e-6)
        self.mlp = nn.Sequential(Linear(self.width, self.width), nn.GELU(), Linear(self.width, config.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.ln_q(x).view(x.shape[0], -1, self.width)).float()  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """The language model without its embedding table, for a prefill of any length as for a single step.

    ``embeds`` (batch, seq, hidden) float32, ``cos`` and ``sin`` (seq, head_dim / 2) float32, layer by layer what the
    attention keeps of the past, and the lengths that it may need to know -> logits (batch, vocabulary) and post-norm hidden state (batch, hidden) of
    the LAST position, float32, and the layers' new keys and values.
    """

    derived: Derived = {}

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config, attention) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)

    def residual(
        self, embeds: Tensor, cos: Tensor, sin: Tensor, past: Sequence[Cache] = (), lengths: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, list[Cache]]:
        """The residual stream (batch, seq, hidden) behind the last layer, BEFORE the final norm, and the cache."""
        x, present = embeds, []
        for index, layer in enumerate(self.layers):
            x, new = layer(x, cos, sin, past[index] if past else None, lengths)
            present.append(new)
        return x, present

    def forward(
        self, embeds: Tensor, cos: Tensor, sin: Tensor, past: Sequence[Cache] = (), lengths: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor, list[Cache]]:
        x, present = self.residual(embeds, cos, sin, past, lengths)
        hidden = self.norm(x[:, -1])
        return self.lm_head(hidden).float(), hidden, present


class DecoderLayer(nn.Module):
    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        size, kv_size = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.input_layernorm = RMSNorm(size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(size, config.rms_norm_eps)
        self.self_attn = nn.Module()
        self.self_attn.q_proj = Linear(size, size)
        self.self_attn.k_proj = Linear(size, kv_size)
        self.self_attn.v_proj = Linear(size, kv_size)
        self.self_attn.o_proj = Linear(size, size, bias=False)
        self.mlp = nn.Module()
        self.mlp.gate_proj = Linear(size, config.intermediate_size, bias=False)
        self.mlp.up_proj = Linear(size, config.intermediate_size, bias=False)
        self.mlp.down_proj = Linear(config.intermediate_size, size, bias=False)
        self.attention, self.heads, self.kv_heads = attention, config.num_attention_heads, config.num_key_value_heads

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: Cache | None, lengths: tuple[Tensor, ...]
    ) -> tuple[Tensor, Cache]:
        h = self.input_layernorm(x)
        q = self.attention.rotary(self.self_attn.q_proj(h), cos, sin, self.heads)
        k = self.attention.rotary(self.self_attn.k_proj(h), cos, sin, self.kv_heads)
        out, new = self.attention.causal(q, k, self.self_attn.v_proj(h), past, lengths, self.heads, self.kv_heads)
        x = x + self.self_attn.o_proj(out).float()
        h = self.post_attention_layernorm(x)
        return x + self.mlp.down_proj(F.silu(self.mlp.gate_proj(h)) * self.mlp.up_proj(h)).float(), new


class Projector(nn.Module):
    """What the condition does to re-encoded features (PROTOCOL 5.1): c = W·LN(h) + b, f + (f·c)·c.

    ``features`` (batch, tokens, hidden) and ``condition`` (batch, hidden), the post-norm hidden state at the action's
    start token -> (batch, tokens, hidden). No softmax and no scaling, as the authors have it.
    """

    derived: Derived = {}

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.layernorm_condition = LayerNorm(hidden_size, eps=1e-5)
        self.linear_condition = Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        c = self.linear_condition(self.layernorm_condition(condition)).float()[:, None]  # (batch, 1, hidden)
        return features + (features * c).sum(-1, keepdim=True) * c


class DetectionFeatures(nn.Module):
    """DINOv2 and the projector's feature half: pixels (batch, 3, 224, 224) -> features (batch, 256, hidden)."""

    def __init__(self, config: Dinov2Config, hidden_size: int, attention: Attention) -> None:
        super().__init__()
        self.detection_model = Dinov2(config, attention)
        self.detection_projector = nn.Module()
        self.detection_projector.layernorm_feature = LayerNorm(config.hidden_size, eps=1e-5)
        self.detection_projector.linear_feature = Linear(config.hidden_size, hidden_size)
        name = "detection_model.embeddings.position_embeddings"
        self.derived: Derived = {name: lambda table: resample_positions(table, config.grid)}

    def forward(self, pixels: Tensor) -> Tensor:
        projector = self.detection_projector
        return projector.linear_feature(projector.layernorm_feature(self.detection_model(pixels))).float()  # type: ignore[no-any-return]


def resample_positions(table: Tensor, grid: int) -> Tensor:
    """DINOv2's position table (1, 1 + side², width), resampled to ``grid`` x ``grid`` patches (PROTOCOL 4)."""
    side = math.isqrt(table.shape[1] - 1)
    patches = table[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat((table[:, :1].float(), patches.flatten(2).transpose(1, 2)), dim=1)


class Dinov2(nn.Module):
    """DINOv2 without its class token at the end: pixels (batch, 3, side, side) -> (batch, patches, width)."""

    def __init__(self, config: Dinov2Config, attention: Attention) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.embeddings = nn.Module()
        self.embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.embeddings.position_embeddings = nn.Parameter(torch.zeros(1, 1 + config.grid**2, width))
        self.embeddings.patch_embeddings = nn.Module()
        self.embeddings.patch_embeddings.projection = Conv2d(3, width, patch, stride=patch)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Dinov2Layer(config, attention) for _ in range(config.num_hidden_layers))
        self.layernorm = LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.embeddings.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        x = torch.cat((self.embeddings.cls_token.float().expand(pixels.shape[0], -1, -1), patches), dim=1)
        x = x + self.embeddings.position_embeddings.float()
        for layer in self.encoder.layer:
            x = layer(x)
        return self.layernorm(x)[:, 1:]  # type: ignore[no-any-return]


class Dinov2Layer(nn.Module):
    def __init__(self, config: Dinov2Config, attention: Attention) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm1 = LayerNorm(width, eps=config.layer_norm_eps)
        self.norm2 = LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = nn.Module()
        self.attention.attention = nn.Module()
        for name in ("query", "key", "value"):
            setattr(self.attention.attention, name, Linear(width, width))
        self.attention.output = nn.Module()
        self.attention.output.dense = Linear(width, width)
        self.layer_scale1, self.layer_scale2 = nn.Module(), nn.Module()
        self.layer_scale1.lambda1 = nn.Parameter(torch.ones(width))
        self.layer_scale2.lambda1 = nn.Parameter(torch.ones(width))
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = Linear(width, config.mlp_dim), Linear(config.mlp_dim, width)
        self.emitter, self.heads = attention, config.num_attention_heads

    def forward(self, x: Tensor) -> Tensor:
        h, qkv = self.norm1(x), self.attention.attention
        out = self.emitter.full(qkv.query(h), qkv.key(h), qkv.value(h), self.heads)
        x = x + self.attention.output.dense(out).float() * self.layer_scale1.lambda1.float()
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x)))).float() * self.layer_scale2.lambda1.float()  # type: ignore[no-any-return]


class SegmentationFeatures(nn.Module):
    """SAM's encoder and the projector's feature half: pixels (batch, 3, 1024, 1024) -> (batch, 256, hidden)."""

    derived: Derived = {}

    def __init__(self, config: SamConfig, hidden_size: int) -> None:
        super().__init__()
        self.seg_model = SamEncoder(config)
        self.seg_projector = nn.Module()
        self.seg_projector.layernorm_feature = LayerNorm(config.output_channels, eps=1e-5)
        self.seg_projector.conv_feature = Conv2d(config.output_channels, hidden_size, 4, stride=4)

    def forward(self, pixels: Tensor) -> Tensor:
        x = channel_norm(self.seg_projector.layernorm_feature, self.seg_model(pixels))
        return self.seg_projector.conv_feature(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


def channel_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """A layer norm over the channels of (batch, channels, height, width)."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class SamEncoder(nn.Module):
    """SAM's vision encoder with its neck: pixels (batch, 3, 1024, 1024) -> (batch, 256, 64, 64)."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        width, patch, out = config.hidden_size, config.patch_size, config.output_channels
        self.patch_embed = nn.Module()
        self.patch_embed.projection = Conv2d(3, width, patch, stride=patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, width))
        self.layers = nn.ModuleList(SamLayer(config, index) for index in range(config.num_hidden_layers))
        self.neck = nn.Module()
        self.neck.conv1 = Conv2d(width, out, 1, bias=False)
        self.neck.layer_norm1 = LayerNorm(out, eps=1e-6)
        self.neck.conv2 = Conv2d(out, out, 3, padding=1, bias=False)
        self.neck.layer_norm2 = LayerNorm(out, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed.projection(pixels).permute(0, 2, 3, 1) + self.pos_embed.float()  # (batch, side, side, width)
        for layer in self.layers:
            x = layer(x)
        x = channel_norm(self.neck.layer_norm1, self.neck.conv1(x.permute(0, 3, 1, 2)))
        return channel_norm(self.neck.layer_norm2, self.neck.conv2(x))


class SamLayer(nn.Module):
    def __init__(self, config: SamConfig, index: int) -> None:
        super().__init__()
        width, self.heads, self.grid = config.hidden_size, config.num_attention_heads, config.grid
        self.window = 0 if index in config.global_attn_indexes else config.window_size
        self.side = self.window or config.grid
        self.layer_norm1 = LayerNorm(width, eps=config.layer_norm_eps)
        self.layer_norm2 = LayerNorm(width, eps=config.layer_norm_eps)
        self.attn = nn.Module()
        self.attn.rel_pos_h = nn.Parameter(torch.zeros(2 * self.side - 1, width // self.heads))
        self.attn.rel_pos_w = nn.Parameter(torch.zeros(2 * self.side - 1, width // self.heads))
        self.attn.qkv, self.attn.proj = Linear(width, 3 * width), Linear(width, width)
        self.mlp = nn.Module()
        self.mlp.lin1, self.mlp.lin2 = Linear(width, config.mlp_dim), Linear(config.mlp_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer_norm1(x)
        x = x + (self.windowed(h) if self.window else self.attend(h))
        return x + self.mlp.lin2(F.gelu(self.mlp.lin1(self.layer_norm2(x)))).float()  # type: ignore[no-any-return]

    def windowed(self, x: Tensor) -> Tensor:
        """Attention within windows; the grid is padded with zeros to a multiple of the window."""
        batch, (side, window) = x.shape[0], (self.grid, self.window)
        count = -(-side // window)
        pad = count * window - side
        x = F.pad(x, (0, 0, 0, pad, 0, pad)).view(batch, count, window, count, window, -1)
        x = self.attend(x.transpose(2, 3).reshape(batch * count * count, window, window, -1))
        x = x.view(batch, count, count, window, window, -1).transpose(2, 3)
        return x.reshape(batch, count * window, count * window, -1)[:, :side, :side]

    def attend(self, x: Tensor) -> Tensor:
        """Attention with decomposed relative positions: x (batch, side, side, width) -> the same."""
        side = self.side
        q, k, v = self.attn.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        place = torch.arange(side, device=x.device)
        offset = place[:, None] - place[None, :] + side - 1  # (side, side) rows of the relative tables
        grid = q.float().unflatten(2, (side, side))  # (batch, heads, side, side, dim)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, self.attn.rel_pos_h.float()[offset])
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, self.attn.rel_pos_w.float()[offset])
        scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float().unflatten(2, (side, side))
        scores = scores.unflatten(-1, (side, side)) + rows[..., None] + columns[..., None, :]
        out = scores.flatten(4).flatten(2, 3).softmax(-1).to(v.dtype) @ v  # (batch, heads, side², dim)
        return self.attn.proj(out.transpose(1, 2).flatten(2)).float().view(x.shape)  # type: ignore[no-any-return]
