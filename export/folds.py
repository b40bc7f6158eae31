"""Where smoothing can be folded into the weights of each graph, in the names of its module's
parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.calibration.smoothing import Fold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from vpt_edge.calibration.smoothing import Smoothing
    from vpt_edge.export.config_files import Dinov2Config, SamConfig, TextConfig, VisionConfig


def _norm(name: str, *consumers: str, width: int, copies: int = 1) -> Fold:
    """A layer norm in front of products that see its channels ``copies`` times, one behind the
    other."""
    return Fold((f"{name}.weight", f"{name}.bias"), consumers, tuple(range(width)) * copies)


def decoder_folds(text: TextConfig) -> tuple[Fold, ...]:
    hidden, group = text.hidden_size, text.num_attention_heads // text.num_key_value_heads
    # Several query heads read one value head: their inputs of o_proj share its channels.
    heads = tuple(
        (head // group) * text.head_dim + place
        for head in range(text.num_attention_heads)
        for place in range(text.head_dim)
    )
    folds = []
    for layer in (f"layers.{index}" for index in range(text.num_hidden_layers)):
        attention, mlp, every = f"{layer}.self_attn", f"{layer}.mlp", tuple(range(hidden))
        queries = tuple(f"{attention}.{part}_proj.weight" for part in "qkv")
        folds += [
            Fold((f"{layer}.input_layernorm.weight",), queries, every),
            Fold(
                (f"{attention}.v_proj.weight", f"{attention}.v_proj.bias"),
                (f"{attention}.o_proj.weight",),
                heads,
            ),
            Fold(
                (f"{layer}.post_attention_layernorm.weight",),
                (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight"),
                every,
            ),
            Fold(
                (f"{mlp}.up_proj.weight",),
                (f"{mlp}.down_proj.weight",),
                tuple(range(text.intermediate_size)),
            ),
        ]
    return tuple(folds)


def cache_scales(
    largest: Mapping[str, NDArray[np.float32]], smoothing: Smoothing | None
) -> dict[str, NDArray[np.float32]]:
    """The steps of an int8 cache by part ("0.key") and channel, from the ``largest`` that the float
    model wrote.

    Smoothing changes the values: what it divides in v_proj is multiplied again in o_proj.
    """
    scales = {}
    for part, most in largest.items():
        layer, _, kind = part.partition(".")
        folded = (
            smoothing.rows.get(f"layers.{layer}.self_attn.v_proj.weight") if smoothing else None
        )
        divisor = folded[1] if folded and kind == "value" else 1.0
        scales[part] = (np.maximum(most / divisor, 1e-6) / 127).astype(np.float32)
    return scales


def vision_folds(vision: VisionConfig) -> tuple[Fold, ...]:
    width = vision.embed_dim
    folds = []
    for block in (f"blocks.{index}" for index in range(vision.depth)):
        folds += _attention_folds(f"{block}.norm1", f"{block}.attn", width)
        folds.append(_norm(f"{block}.norm2", f"{block}.mlp.fc1.weight", width=width))
    return (
        *folds,
        _norm("merger.ln_q", "merger.mlp.0.weight", width=width, copies=vision.merge_size**2),
    )


def sam_folds(sam: SamConfig) -> tuple[Fold, ...]:
    folds = []
    for layer in (f"seg_model.layers.{index}" for index in range(sam.num_hidden_layers)):
        folds += _attention_folds(f"{layer}.layer_norm1", f"{layer}.attn", sam.hidden_size)
        folds.append(
            _norm(f"{layer}.layer_norm2", f"{layer}.mlp.lin1.weight", width=sam.hidden_size)
        )
    return tuple(folds)


def dinov2_folds(dinov2: Dinov2Config) -> tuple[Fold, ...]:
    folds, width = [], dinov2.hidden_size
    for layer in (
        f"detection_model.encoder.layer.{index}" for index in range(dinov2.num_hidden_layers)
    ):
        attention = f"{layer}.attention.attention"
        queries = tuple(f"{attention}.{part}.weight" for part in ("query", "key", "value"))
        value = (f"{attention}.value.weight", f"{attention}.value.bias")
        folds += [
            _norm(f"{layer}.norm1", *queries, width=width),
            Fold(value, (f"{layer}.attention.output.dense.weight",), tuple(range(width))),
            _norm(f"{layer}.norm2", f"{layer}.mlp.fc1.weight", width=width),
        ]
    name = "detection_projector"
    return (
        *folds,
        _norm(f"{name}.layernorm_feature", f"{name}.linear_feature.weight", width=width),
    )


def _attention_folds(norm: str, attention: str, width: int) -> list[Fold]:
    """A norm in front of a joint qkv product, and its values in front of the output product."""
    qkv = f"{attention}.qkv"
    values = Fold(
        (f"{qkv}.weight", f"{qkv}.bias"),
        (f"{attention}.proj.weight",),
        tuple(range(width)),
        start=2 * width,
    )
    return [_norm(norm, f"{qkv}.weight", width=width), values]
