"""Names, shapes, dynamic axes and bounds of each graph, and how each target writes attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from vpt_edge.export import layers
from vpt_edge.export.config_files import Dinov2Config, SamConfig
from vpt_edge.export.folds import decoder_folds, dinov2_folds, sam_folds, vision_folds
from vpt_edge.export.models.dinov2 import DetectionFeatures
from vpt_edge.export.models.sam import SegmentationFeatures
from vpt_edge.runtime import bundle
from vpt_edge.runtime.image import most_tokens
from vpt_edge.runtime.kv_cache import BLOCK, whole_blocks

if TYPE_CHECKING:
    from vpt_edge.calibration.smoothing import Fold
    from vpt_edge.export.checkpoint import Checkpoint
    from vpt_edge.export.layers import Attention, Cache, Rope
    from vpt_edge.export.quantization.recipe import Recipe

OPSET = 19  # the newest that TensorRT 10.3 takes in full; FP16 scales of Q/DQ need it
PREFILL = 512  # tokens of one pass: a longer prompt goes in pieces, so that activations stay small


class OnnxRuntimeAttention:
    """Contrib operators of ONNX Runtime. Past and present of the cache are one buffer.

    Cache: keys and values (batch, kv_heads, capacity, head_dim); ``lengths``: seqlens_k (batch,)
    int32, the last filled index, and total_sequence_length () int32. In float32 attention rotates
    too: ``rope`` (capacity, head_dim / 2) is that of every slot of the cache. In eager torch the
    results are dummies."""

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
        first = torch.zeros(
            1, dtype=torch.int64
        )  # cos and sin hold these very positions, not a table
        wide = x.float()
        return _contrib("RotaryEmbedding", [wide, first, cos, sin], {"num_heads": heads}, [wide])[
            0
        ].to(x.dtype)

    def full(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        return _contrib("MultiHeadAttention", [q, k, v], {"num_heads": heads}, [q])[0]

    def visibility(
        self, seq: int, past: Cache | None, lengths: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return lengths

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
        assert past is not None, "the cache's buffers are inputs of the graph"
        attributes, table = {"num_heads": heads, "kv_num_heads": kv_heads}, list[Tensor]()
        if q.dtype == torch.float32:
            attributes["do_rotary"], table = 1, [*rope]
        else:  # it would rotate in float16
            q, k = self.rotary(q, *rope, heads), self.rotary(k, *rope, kv_heads)
        inputs = [q, k, v, *past, *visibility, *table]
        out, key, value = _contrib("GroupQueryAttention", inputs, attributes, [q, *past])
        return out, (key, value)


def _contrib(
    name: str, inputs: list[Tensor], attributes: dict[str, int], like: list[Tensor]
) -> tuple[Tensor, ...]:
    outputs = torch.onnx.ops.symbolic_multi_out(
        f"com.microsoft::{name}",
        inputs,
        attrs=cast("dict[str, Any]", attributes),
        dtypes=[tensor.dtype for tensor in like],
        shapes=[tensor.shape for tensor in like],
        version=1,
    )
    return tuple(outputs)


@dataclass(frozen=True)
class Target:
    """How graphs are written for one inference library; ``layout`` is the cache's (see
    ``bundle.Cache``)."""

    attention: Attention
    layout: str


TARGETS = {
    "onnxruntime": Target(OnnxRuntimeAttention(), "shared"),
    "tensorrt": Target(layers.PlainAttention(), "appended"),
}


@dataclass(frozen=True)
class Spec:
    """One graph to be exported: its interface, its torch module, and where the module's weights
    come from.

    ``build`` makes the module for an attention; ``tensor_name`` gives a parameter's name in the
    checkpoint. ``ratios`` names dynamic axes that are multiples of another: {"patches": ("tokens",
    4)}; ``folds`` are where quantization may smooth outliers."""

    graph: bundle.Graph
    build: Callable[[Attention], nn.Module]
    tensor_name: Callable[[str], str]
    ratios: dict[str, tuple[str, int]] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()

    @property
    def name(self) -> str:
        return self.graph.file.removesuffix(".onnx")


def specs(
    checkpoint: Checkpoint, recipe: Recipe, target: str, cache_tokens: int
) -> dict[str, Spec]:
    """The graphs of ``checkpoint``, in the order in which they are exported."""
    graphs = {
        "vision_encoder": _vision_encoder(checkpoint),
        "decoder": _decoder(checkpoint, recipe, target, cache_tokens),
    }
    if checkpoint.encoder is not None:
        graphs["reencoder_features"] = _reencoder_features(checkpoint)
    graphs["reencoder_projector"] = _reencoder_projector(checkpoint)
    return graphs


def _floats(name: str, *shape: int | str) -> bundle.Tensor:
    return bundle.Tensor(name, "float32", shape)


def with_cache(graph: bundle.Graph, dtype: str) -> bundle.Graph:
    """``graph`` with keys and values of ``dtype``."""
    sides = [
        tuple(
            replace(t, dtype=dtype) if t.name.startswith(("past.", "present.")) else t
            for t in tensors
        )
        for tensors in (graph.inputs, graph.outputs)
    ]
    return replace(graph, inputs=sides[0], outputs=sides[1])


def _vision_encoder(checkpoint: Checkpoint) -> Spec:
    vision = checkpoint.vision
    rope, most = ("patches", vision.head_dim // 2), most_tokens(checkpoint.image)
    graph = bundle.Graph(
        file="vision_encoder.onnx",
        inputs=(
            _floats("patches", 1, "patches", vision.patch_width),
            _floats("cos", *rope),
            _floats("sin", *rope),
        ),
        outputs=(_floats("features", 1, "tokens", vision.hidden_size),),
        bounds={"patches": (4, 4 * min(256, most), 4 * most), "tokens": (1, min(256, most), most)},
    )
    return Spec(
        graph,
        lambda attention: layers.VisionEncoder(vision, attention),
        lambda name: f"visual.{name}",
        {"patches": ("tokens", vision.merge_size**2)},
        vision_folds(vision),
    )


def _decoder(checkpoint: Checkpoint, recipe: Recipe, target: str, cache_tokens: int) -> Spec:
    text = checkpoint.text
    rotates = (
        target == "onnxruntime" and recipe.dtype[target] == "float32"
    )  # attention itself, by the cache's slots
    rope = ("capacity" if rotates else "sequence", text.head_dim // 2)
    inputs = [
        _floats("embeds", 1, "sequence", text.hidden_size),
        _floats("cos", *rope),
        _floats("sin", *rope),
    ]
    outputs = [_floats("logits", 1, text.vocab_size), _floats("hidden", 1, text.hidden_size)]
    most = min(PREFILL, cache_tokens)
    bounds = {"sequence": (1, min(256, most), most)}
    picks = (
        TARGETS[target].layout == "appended"
    )  # on a CPU the logits need no journey, and numpy finds the largest
    if TARGETS[target].layout == "shared":
        past = present = (1, text.num_key_value_heads, "capacity", text.head_dim)  # type: tuple[int | str, ...]
        bounds["capacity"] = (1, cache_tokens, cache_tokens)
        lengths = [
            bundle.Tensor("seqlens_k", "int32", (1,)),
            bundle.Tensor("total_sequence_length", "int32", ()),
        ]
    else:
        past, present = (
            (1, axis, text.num_key_value_heads * text.head_dim) for axis in ("past", "sequence")
        )
        bounds["past"] = (
            BLOCK,
            min(2 * BLOCK, whole_blocks(cache_tokens)),
            whole_blocks(cache_tokens),
        )
        lengths = [bundle.Tensor("filled", "int32", ())]
        outputs.append(bundle.Tensor("token", "int64", (1,)))
    parts = [
        f"{layer}.{part}" for layer in range(text.num_hidden_layers) for part in ("key", "value")
    ]
    inputs += [
        bundle.Tensor(f"past.{part}", recipe.dtype[target], past) for part in parts
    ] + lengths
    outputs += [bundle.Tensor(f"present.{part}", recipe.dtype[target], present) for part in parts]
    graph = bundle.Graph("decoder.onnx", tuple(inputs), tuple(outputs), bounds)
    return Spec(
        graph,
        lambda attention: layers.Decoder(text, attention, picks),
        checkpoint.decoder_tensor,
        folds=decoder_folds(text),
    )


def _reencoder_features(checkpoint: Checkpoint) -> Spec:
    encoder, hidden = checkpoint.encoder, checkpoint.text.hidden_size

    def build(attention: Attention) -> nn.Module:
        if isinstance(encoder, SamConfig):
            return SegmentationFeatures(encoder, hidden)
        assert isinstance(encoder, Dinov2Config)
        return DetectionFeatures(encoder, hidden, attention)

    side = encoder.image_side if encoder else 0
    graph = bundle.Graph(
        file="reencoder_features.onnx",
        inputs=(_floats("pixels", 1, 3, side, side),),
        outputs=(_floats("features", 1, 256, hidden),),
        bounds={},
    )
    folds = (
        sam_folds(encoder)
        if isinstance(encoder, SamConfig)
        else dinov2_folds(encoder)
        if encoder
        else ()
    )
    return Spec(graph, build, lambda name: name, folds=folds)


def _reencoder_projector(checkpoint: Checkpoint) -> Spec:
    hidden = checkpoint.text.hidden_size
    most = max(most_tokens(checkpoint.image), 256)
    graph = bundle.Graph(
        file="reencoder_projector.onnx",
        inputs=(_floats("features", 1, "tokens", hidden), _floats("condition", 1, hidden)),
        outputs=(_floats("projected", 1, "tokens", hidden),),
        bounds={"tokens": (1, 256, most)},
    )
    return Spec(
        graph,
        lambda attention: layers.Projector(hidden),
        lambda name: f"{checkpoint.kind}_projector.{name}",
    )
