"""Qwen3-VL's language model: its tensors, its graph, and where smoothing folds into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vpt_edge.export.attention import Heads
from vpt_edge.export.layers import GatedMLP, Linear, Namespace, RMSNorm
from vpt_edge.export.models.qwen2_vl.decoder import (
    EMBEDDINGS,
    HEAD,
    decoder_folds,
    decoder_graph,
    select_last,
    value_weights,
)
from vpt_edge.export.spec import GraphOptions, Spec

if TYPE_CHECKING:
    from vpt_edge.export.attention import Attention, AttentionType, LayerCache, Rope
    from vpt_edge.export.models.qwen3_vl.config import TextConfig
    from vpt_edge.export.spec import Shape


def decoder_tensors(config: TextConfig) -> dict[str, Shape]:
    """Name and shape of every tensor, a separate lm_head included."""
    size = config.hidden_size
    mlp = config.intermediate_size
    tensors: dict[str, Shape] = {EMBEDDINGS: (config.vocab_size, size)}
    tensors[HEAD] = (config.vocab_size, size)
    tensors["model.norm.weight"] = (size,)
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        tensors[f"{layer}.self_attn.q_proj.weight"] = (config.query_size, size)
        tensors[f"{layer}.self_attn.k_proj.weight"] = (config.kv_size, size)
        tensors[f"{layer}.self_attn.v_proj.weight"] = (config.kv_size, size)
        tensors[f"{layer}.self_attn.o_proj.weight"] = (size, config.query_size)
        tensors[f"{layer}.self_attn.q_norm.weight"] = (config.head_dim,)
        tensors[f"{layer}.self_attn.k_norm.weight"] = (config.head_dim,)
        tensors[f"{layer}.mlp.gate_proj.weight"] = (mlp, size)
        tensors[f"{layer}.mlp.up_proj.weight"] = (mlp, size)
        tensors[f"{layer}.mlp.down_proj.weight"] = (size, mlp)
        tensors[f"{layer}.input_layernorm.weight"] = (size,)
        tensors[f"{layer}.post_attention_layernorm.weight"] = (size,)
    return tensors


def decoder_spec(config: TextConfig, levels: int, options: GraphOptions, embeddings: str) -> Spec:
    """The graph ``decoder``, which takes deep features of ``levels``; ``embeddings`` is the
    checkpoint's tensor of the embedding table.
    """
    is_appended = options.target.layout == "appended"

    def tensor_name(name: str) -> str:
        if name != HEAD:
            return f"model.{name}"
        return embeddings if config.tie_word_embeddings else HEAD

    return Spec(
        decoder_graph(config, options, levels),
        lambda attention: Decoder(config, levels, attention, argmax=is_appended),
        tensor_name,
        folds=decoder_folds(config, has_bias=False),
        value_weights=value_weights(config),
    )


class Decoder(nn.Module):
    """The language model without its embedding table, for a prefill of any length as for a single
    step.

    As Qwen2-VL's, and besides ``deep`` (levels, seq, hidden) float32: what is added behind each of
    the first layers, zeros where a token is not a picture's.
    """

    def __init__(
        self, config: TextConfig, levels: int, attention: AttentionType, *, argmax: bool = False
    ) -> None:
        super().__init__()
        heads = Heads(config.num_attention_heads, config.num_key_value_heads)
        self.attention = attention(heads)
        self.levels = levels
        self.argmax = argmax
        self.layers = nn.ModuleList(
            DecoderLayer(config, self.attention) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(
        self,
        embeds: Tensor,
        cos: Tensor,
        sin: Tensor,
        deep: Tensor,
        past: Sequence[LayerCache] = (),
        lengths: tuple[Tensor, ...] = (),
    ) -> tuple[Any, ...]:
        x = embeds
        pasts: Sequence[LayerCache | None] = past or [None] * len(self.layers)
        visibility = self.attention.visibility(embeds.shape[1], pasts[0], lengths)
        present = []
        for index, (layer, before) in enumerate(zip(self.layers, pasts, strict=True)):
            x, new = layer(x, (cos, sin), before, visibility)
            if index < self.levels:
                x = x + deep[index]
            present.append(new)
        hidden = self.norm(select_last(x, lengths))
        logits = self.lm_head(hidden).float()
        if self.argmax:
            return logits, hidden, logits.argmax(-1), present
        return logits, hidden, present


class DecoderLayer(nn.Module):
    """One layer: x (batch, seq, hidden) float32 -> the same, and what the cache takes in."""

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        size = config.hidden_size
        self.input_layernorm = RMSNorm(size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(size, config.rms_norm_eps)
        self.self_attn = Namespace()
        self.self_attn.q_proj = Linear(size, config.query_size, bias=False)
        self.self_attn.k_proj = Linear(size, config.kv_size, bias=False)
        self.self_attn.v_proj = Linear(size, config.kv_size, bias=False)
        self.self_attn.o_proj = Linear(config.query_size, size, bias=False)
        self.self_attn.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.self_attn.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.mlp = GatedMLP(size, config.intermediate_size, bias=False)
        self.head_dim = config.head_dim
        self.attention = attention

    def forward(
        self, x: Tensor, rope: Rope, past: LayerCache | None, visibility: tuple[Tensor, ...]
    ) -> tuple[Tensor, LayerCache]:
        h = self.input_layernorm(x)
        q = self._norm_heads(self.self_attn.q_norm, self.self_attn.q_proj(h))
        k = self._norm_heads(self.self_attn.k_norm, self.self_attn.k_proj(h))
        v = self.self_attn.v_proj(h)
        out, new = self.attention.causal(q, k, v, rope, past, visibility)
        x = x + self.self_attn.o_proj(out).float()
        return x + self.mlp(self.post_attention_layernorm(x)), new

    def _norm_heads(self, norm: RMSNorm, x: Tensor) -> Tensor:
        """``norm`` of each head: x (batch, seq, heads * head_dim) -> the same."""
        normed = norm(x.unflatten(-1, (-1, self.head_dim)))
        return normed.flatten(2).to(x.dtype)
