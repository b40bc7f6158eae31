"""Qwen2-VL's language model: its tensors, its graph, and where smoothing folds into it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vpt_edge.calibration.smoothing import Fold
from vpt_edge.export.attention import Heads
from vpt_edge.export.layers import GatedMLP, Linear, Namespace, RMSNorm
from vpt_edge.export.spec import GraphOptions, Spec, floats, weight_and_bias
from vpt_edge.runtime import manifest
from vpt_edge.runtime.interface import BLOCK, whole_blocks

if TYPE_CHECKING:
    from vpt_edge.export.attention import Attention, AttentionType, LayerCache, Rope
    from vpt_edge.export.models.qwen2_vl.config import TextConfig
    from vpt_edge.export.models.tower import TextGeometry
    from vpt_edge.export.spec import Shape

    Axes = tuple[int | str, ...]

PREFILL = 512  # tokens of one pass: a longer prompt goes in pieces, so that activations stay small
USUAL_PREFILL = 256  # what an engine is tuned for
DRAFTED = 16  # tokens of one pass that verifies a draft
HEAD = "lm_head.weight"
EMBEDDINGS = "model.embed_tokens.weight"


def decoder_tensors(config: TextConfig) -> dict[str, Shape]:
    """Name and shape of every tensor (PROTOCOL 6), a separate lm_head included."""
    size = config.hidden_size
    mlp = config.intermediate_size
    tensors: dict[str, Shape] = {EMBEDDINGS: (config.vocab_size, size)}
    tensors[HEAD] = (config.vocab_size, size)
    tensors["model.norm.weight"] = (size,)
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        tensors |= weight_and_bias(f"{layer}.self_attn.q_proj", (size, size))
        tensors |= weight_and_bias(f"{layer}.self_attn.k_proj", (config.kv_size, size))
        tensors |= weight_and_bias(f"{layer}.self_attn.v_proj", (config.kv_size, size))
        tensors[f"{layer}.self_attn.o_proj.weight"] = (size, size)
        tensors[f"{layer}.mlp.gate_proj.weight"] = (mlp, size)
        tensors[f"{layer}.mlp.up_proj.weight"] = (mlp, size)
        tensors[f"{layer}.mlp.down_proj.weight"] = (size, mlp)
        tensors[f"{layer}.input_layernorm.weight"] = (size,)
        tensors[f"{layer}.post_attention_layernorm.weight"] = (size,)
    return tensors


def optional_tensors(config: TextGeometry) -> set[str]:
    """Those that a checkpoint may lack."""
    if config.tie_word_embeddings:
        return {HEAD}
    return set()


def embeddings_tensor(config: TextGeometry, names: Container[str]) -> str:
    """The embedding table among the tensors ``names`` of a checkpoint.

    A tied checkpoint with a separate lm_head takes that for both, as the authors' loader does
    (PROTOCOL 6).
    """
    if config.tie_word_embeddings and HEAD in names:
        return HEAD
    return EMBEDDINGS


def decoder_spec(config: TextConfig, options: GraphOptions, embeddings: str) -> Spec:
    """The graph ``decoder``; ``embeddings`` is the checkpoint's tensor of the embedding table."""
    is_appended = options.target.layout == "appended"

    def tensor_name(name: str) -> str:
        if name != HEAD:
            return f"model.{name}"
        return embeddings if config.tie_word_embeddings else HEAD

    return Spec(
        decoder_graph(config, options),
        # on a CPU the logits need no journey, and numpy finds the largest
        lambda attention: Decoder(config, attention, argmax=is_appended),
        tensor_name,
        folds=decoder_folds(config),
        value_weights=value_weights(config),
    )


def value_weights(config: TextGeometry) -> dict[str, str]:
    """The parameter that makes each layer's values, by its part of the cache."""
    weights = {}
    for index in range(config.num_hidden_layers):
        weights[f"{index}.value"] = f"layers.{index}.self_attn.v_proj.weight"
    return weights


def decoder_graph(config: TextGeometry, options: GraphOptions, levels: int = 0) -> manifest.Graph:
    """The interface of a decoder that takes deep features of ``levels``."""
    rotates = options.target.slot_rope and options.dtype == "float32"
    rope: Axes = ("capacity" if rotates else "sequence", config.head_dim // 2)
    most = min(PREFILL, options.cache_tokens)
    bounds = {"sequence": (1, min(USUAL_PREFILL, most), most)}
    inputs = [
        floats("embeds", 1, "sequence", config.hidden_size),
        floats("cos", *rope),
        floats("sin", *rope),
    ]
    if levels:
        inputs.append(floats("deep", levels, "sequence", config.hidden_size))
    last: int | str = 1
    if options.target.layout == "shared":
        last = "last"
        bounds["last"] = (1, 1, min(DRAFTED, most))
        capacity = options.cache_tokens
        past: Axes = (1, config.num_key_value_heads, "capacity", config.head_dim)
        present = past
        bounds["capacity"] = (1, capacity, capacity)
        lengths = [
            manifest.Tensor("seqlens_k", "int32", (1,)),
            manifest.Tensor("total_sequence_length", "int32", ()),
            manifest.Tensor("last", "int64", ("last",)),
        ]
    else:
        capacity = whole_blocks(options.cache_tokens)
        kv_size = config.num_key_value_heads * config.head_dim
        past = (1, "past", kv_size)
        present = (1, "sequence", kv_size)
        bounds["past"] = (BLOCK, min(2 * BLOCK, capacity), capacity)
        lengths = [manifest.Tensor("filled", "int32", ())]
    outputs = [
        floats("logits", last, config.vocab_size),
        floats("hidden", last, config.hidden_size),
    ]
    if options.target.layout == "appended":
        outputs.append(manifest.Tensor("token", "int64", (1,)))
    inputs += _cache_tensors("past", config, options.dtype, past)
    inputs += lengths
    outputs += _cache_tensors("present", config, options.dtype, present)
    return manifest.Graph("decoder.onnx", tuple(inputs), tuple(outputs), bounds)


def _cache_tensors(
    side: str, config: TextGeometry, dtype: str, shape: Axes
) -> list[manifest.Tensor]:
    tensors = []
    for layer in range(config.num_hidden_layers):
        tensors.append(manifest.Tensor(f"{side}.{layer}.key", dtype, shape))
        tensors.append(manifest.Tensor(f"{side}.{layer}.value", dtype, shape))
    return tensors


def decoder_folds(config: TextGeometry, has_bias: bool = True) -> tuple[Fold, ...]:
    """Where smoothing folds into the module's parameters; ``has_bias``: values have one."""
    every = tuple(range(config.hidden_size))
    heads = _value_channels(config)
    between = tuple(range(config.intermediate_size))
    folds = []
    for index in range(config.num_hidden_layers):
        layer = f"layers.{index}"
        attention = f"{layer}.self_attn"
        gate = f"{layer}.mlp.gate_proj.weight"
        up = f"{layer}.mlp.up_proj.weight"
        down = f"{layer}.mlp.down_proj.weight"
        queries = tuple(f"{attention}.{part}_proj.weight" for part in "qkv")
        values: tuple[str, ...] = (f"{attention}.v_proj.weight",)
        if has_bias:
            values += (f"{attention}.v_proj.bias",)
        folds += [
            Fold((f"{layer}.input_layernorm.weight",), queries, every),
            Fold(values, (f"{attention}.o_proj.weight",), heads),
            Fold((f"{layer}.post_attention_layernorm.weight",), (gate, up), every),
            Fold((up,), (down,), between),
        ]
    return tuple(folds)


def _value_channels(config: TextGeometry) -> tuple[int, ...]:
    """The channel of v_proj behind each input of o_proj: several query heads read one value head,
    and share its channels.
    """
    group = config.num_attention_heads // config.num_key_value_heads
    channels = list[int]()
    for head in range(config.num_attention_heads):
        start = (head // group) * config.head_dim
        channels += range(start, start + config.head_dim)
    return tuple(channels)


class Decoder(nn.Module):
    """The language model without its embedding table, for a prefill of any length as for a single
    step.

    ``embeds`` (1, seq, hidden) float32, ``cos`` and ``sin`` float32 (see ``Rope``), layer by layer
    what the attention keeps of the past, and the lengths that it may need to know, with the
    positions (n,) int64 that are read out where it is not the last one -> logits (n, vocabulary)
    and post-norm hidden states (n, hidden) of those, float32, with ``argmax`` the likeliest token
    (1,) int64, and the layers' new keys and values.
    """

    def __init__(
        self, config: TextConfig, attention: AttentionType, *, argmax: bool = False
    ) -> None:
        super().__init__()
        heads = Heads(config.num_attention_heads, config.num_key_value_heads)
        self.attention = attention(heads)
        self.argmax = argmax
        self.layers = nn.ModuleList(
            DecoderLayer(config, self.attention) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)

    def residual(
        self,
        embeds: Tensor,
        cos: Tensor,
        sin: Tensor,
        past: Sequence[LayerCache] = (),
        lengths: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, list[LayerCache]]:
        """The residual stream (batch, seq, hidden) behind the last layer, BEFORE the final norm,
        and the cache.
        """
        x = embeds
        pasts: Sequence[LayerCache | None] = past or [None] * len(self.layers)
        visibility = self.attention.visibility(embeds.shape[1], pasts[0], lengths)
        present = []
        for layer, before in zip(self.layers, pasts, strict=True):
            x, new = layer(x, (cos, sin), before, visibility)
            present.append(new)
        return x, present

    def forward(
        self,
        embeds: Tensor,
        cos: Tensor,
        sin: Tensor,
        past: Sequence[LayerCache] = (),
        lengths: tuple[Tensor, ...] = (),
    ) -> tuple[Any, ...]:
        x, present = self.residual(embeds, cos, sin, past, lengths)
        hidden = self.norm(select_last(x, lengths))
        logits = self.lm_head(hidden).float()
        if self.argmax:
            return logits, hidden, logits.argmax(-1), present
        return logits, hidden, present


def select_last(x: Tensor, lengths: tuple[Tensor, ...]) -> Tensor:
    """Of x (1, seq, hidden) the positions (n,) that the third of ``lengths`` names, without it the
    last one: (n, hidden).
    """
    if len(lengths) <= 2:
        return x[:, -1]
    return x[0].index_select(0, lengths[2])


class DecoderLayer(nn.Module):
    """One layer: x (batch, seq, hidden) float32 -> the same, and what the cache takes in."""

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        size = config.hidden_size
        self.input_layernorm = RMSNorm(size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(size, config.rms_norm_eps)
        self.self_attn = Namespace()
        self.self_attn.q_proj = Linear(size, size)
        self.self_attn.k_proj = Linear(size, config.kv_size)
        self.self_attn.v_proj = Linear(size, config.kv_size)
        self.self_attn.o_proj = Linear(size, size, bias=False)
        self.mlp = GatedMLP(size, config.intermediate_size, bias=False)
        self.attention = attention

    def forward(
        self, x: Tensor, rope: Rope, past: LayerCache | None, visibility: tuple[Tensor, ...]
    ) -> tuple[Tensor, LayerCache]:
        h = self.input_layernorm(x)
        q = self.self_attn.q_proj(h)
        k = self.self_attn.k_proj(h)
        v = self.self_attn.v_proj(h)
        out, new = self.attention.causal(q, k, v, rope, past, visibility)
        x = x + self.self_attn.o_proj(out).float()
        return x + self.mlp(self.post_attention_layernorm(x)), new
