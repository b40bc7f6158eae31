"""Qwen2.5-VL's vision encoder: its tensors, its graph, and where smoothing folds into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from vpt_edge.calibration.smoothing import Fold
from vpt_edge.export.attention import Heads
from vpt_edge.export.layers import GELU, GatedMLP, Linear, Namespace, RMSNorm
from vpt_edge.export.spec import GraphOptions, Spec, weight_and_bias
from vpt_edge.runtime.manifest import Graph
from vpt_edge.runtime.models import qwen2_5_vl

if TYPE_CHECKING:
    from vpt_edge.export.attention import Attention, AttentionType, Rope, Windows
    from vpt_edge.export.models.qwen2_5_vl.config import VisionConfig
    from vpt_edge.export.spec import Shape

USUAL_TOKENS = 256  # of a picture: what an engine is tuned for
EPSILON = 1e-6  # of its norms


def vision_tensors(config: VisionConfig) -> dict[str, Shape]:
    """Name and shape of every tensor."""
    dim = config.hidden_size
    patch = (config.temporal_patch_size, config.patch_size, config.patch_size)
    tensors: dict[str, Shape] = {
        "visual.patch_embed.proj.weight": (dim, config.in_channels, *patch)
    }
    for index in range(config.depth):
        block = f"visual.blocks.{index}"
        tensors[f"{block}.norm1.weight"] = (dim,)
        tensors[f"{block}.norm2.weight"] = (dim,)
        tensors |= weight_and_bias(f"{block}.attn.qkv", (3 * dim, dim))
        tensors |= weight_and_bias(f"{block}.attn.proj", (dim, dim))
        tensors |= weight_and_bias(f"{block}.mlp.gate_proj", (config.intermediate_size, dim))
        tensors |= weight_and_bias(f"{block}.mlp.up_proj", (config.intermediate_size, dim))
        tensors |= weight_and_bias(f"{block}.mlp.down_proj", (dim, config.intermediate_size))
    width = config.merged_width
    tensors["visual.merger.ln_q.weight"] = (dim,)
    tensors |= weight_and_bias("visual.merger.mlp.0", (width, width))
    tensors |= weight_and_bias("visual.merger.mlp.2", (config.out_hidden_size, width))
    return tensors


def vision_spec(config: VisionConfig, options: GraphOptions) -> Spec:
    """The graph ``vision_encoder``."""
    most = options.image_tokens
    usual = min(USUAL_TOKENS, most)
    ratio = config.spatial_merge_size**2
    window = config.window
    inputs, outputs = qwen2_5_vl.vision_tensors(config.head_dim, window, config.out_hidden_size)
    graph = Graph(
        file="vision_encoder.onnx",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        bounds={
            "patches": (ratio, ratio * usual, ratio * most),
            "tokens": (1, usual, most),
            # a square picture's, and of one that is a row of tokens
            "windows": (1, -(-usual // window**2), -(-most // window)),
        },
    )
    return Spec(
        graph,
        lambda attention: VisionEncoder(config, attention),
        lambda name: f"visual.{name}",
        weight_transforms={"patch_embed.proj.weight": lambda weight: weight.flatten(1)},
        ratios={"patches": ("tokens", ratio)},
        folds=vision_folds(config),
    )


def vision_folds(config: VisionConfig) -> tuple[Fold, ...]:
    """Where smoothing folds into the module's parameters."""
    every = tuple(range(config.hidden_size))
    between = tuple(range(config.intermediate_size))
    folds = []
    for index in range(config.depth):
        block = f"blocks.{index}"
        qkv = f"{block}.attn.qkv"
        gate = f"{block}.mlp.gate_proj.weight"
        up = f"{block}.mlp.up_proj"
        values = (f"{qkv}.weight", f"{qkv}.bias")
        folds += [
            Fold((f"{block}.norm1.weight",), (f"{qkv}.weight",), every),
            Fold(values, (f"{block}.attn.proj.weight",), every, start=2 * config.hidden_size),
            Fold((f"{block}.norm2.weight",), (gate, f"{up}.weight"), every),
            Fold((f"{up}.weight", f"{up}.bias"), (f"{block}.mlp.down_proj.weight",), between),
        ]
    copies = config.spatial_merge_size**2
    folds.append(Fold(("merger.ln_q.weight",), ("merger.mlp.0.weight",), every * copies))
    return tuple(folds)


class VisionEncoder(nn.Module):
    """The vision encoder, for one picture, whose patches come window by window.

    ``patches`` (1, patches, 1176) float32, ``cos`` and ``sin`` (patches, head_dim / 2), ``slots``,
    ``places`` and ``lengths`` (see ``attention.Windows``) -> features (1, patches / 4, hidden)
    float32 in the same order.
    """

    def __init__(self, config: VisionConfig, attention: AttentionType) -> None:
        super().__init__()
        attend = attention(Heads(config.num_heads, config.num_heads))
        self.patch_embed = Namespace()
        self.patch_embed.proj = Linear(config.patch_width, config.hidden_size, bias=False)
        self.blocks = nn.ModuleList(VisionBlock(config, attend) for _ in range(config.depth))
        self.merger = PatchMerger(config)
        self.full = frozenset(config.fullatt_block_indexes)

    def forward(
        self,
        patches: Tensor,
        cos: Tensor,
        sin: Tensor,
        slots: Tensor,
        places: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        x = self.patch_embed.proj(patches).float()
        windows = (slots, places, lengths)
        for index, block in enumerate(self.blocks):
            x = block(x, (cos, sin), None if index in self.full else windows)
        return self.merger(x)


class VisionBlock(nn.Module):
    """One layer: x (1, patches, dim) float32 -> the same; without ``windows`` every patch sees
    every other.
    """

    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        dim = config.hidden_size
        self.norm1 = RMSNorm(dim, EPSILON)
        self.norm2 = RMSNorm(dim, EPSILON)
        self.attn = Namespace()
        self.attn.qkv = Linear(dim, 3 * dim)
        self.attn.proj = Linear(dim, dim)
        self.mlp = GatedMLP(dim, config.intermediate_size, bias=True)
        self.attend = attention

    def forward(self, x: Tensor, rope: Rope, windows: Windows | None) -> Tensor:
        qkv = self.attn.qkv(self.norm1(x))
        width = x.shape[-1]
        q = qkv[..., 0:width]
        k = qkv[..., width : 2 * width]
        v = qkv[..., 2 * width : 3 * width]
        if windows is None:
            out = self.attend.full(q, k, v, rope)
        else:
            out = self.attend.windowed(q, k, v, rope, windows)
        x = x + self.attn.proj(out).float()
        return x + self.mlp(self.norm2(x))


class PatchMerger(nn.Module):
    """Four neighbouring patches become one visual token: (1, patches, dim) float32 -> (1, patches /
    4, hidden).
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.merged_width
        self.ln_q = RMSNorm(config.hidden_size, EPSILON)
        self.mlp = nn.Sequential(
            Linear(self.width, self.width), GELU(), Linear(self.width, config.out_hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.ln_q(x).view(x.shape[0], -1, self.width)).float()
