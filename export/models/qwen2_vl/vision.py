"""Qwen2-VL's vision encoder: its tensors, its graph, and where smoothing folds into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vpt_edge.export.attention import Heads
from vpt_edge.export.layers import LayerNorm, Linear, Namespace, joint_qkv_folds, norm_fold
from vpt_edge.export.spec import GraphOptions, Spec, floats, weight_and_bias
from vpt_edge.runtime.manifest import Graph

if TYPE_CHECKING:
    from vpt_edge.calibration.smoothing import Fold
    from vpt_edge.export.attention import Attention, AttentionType, Rope
    from vpt_edge.export.models.qwen2_vl.config import VisionConfig
    from vpt_edge.export.spec import Shape

USUAL_TOKENS = 256  # of a picture: what an engine is tuned for


def vision_tensors(config: VisionConfig) -> dict[str, Shape]:
    """Name and shape of every tensor (PROTOCOL 6)."""
    dim = config.embed_dim
    patch = (config.temporal_patch_size, config.patch_size, config.patch_size)
    tensors: dict[str, Shape] = {
        "visual.patch_embed.proj.weight": (dim, config.in_channels, *patch)
    }
    for index in range(config.depth):
        block = f"visual.blocks.{index}"
        tensors |= weight_and_bias(f"{block}.norm1", (dim,))
        tensors |= weight_and_bias(f"{block}.norm2", (dim,))
        tensors |= weight_and_bias(f"{block}.attn.qkv", (3 * dim, dim))
        tensors |= weight_and_bias(f"{block}.attn.proj", (dim, dim))
        tensors |= weight_and_bias(f"{block}.mlp.fc1", (config.mlp_dim, dim))
        tensors |= weight_and_bias(f"{block}.mlp.fc2", (dim, config.mlp_dim))
    width = config.merged_width
    tensors |= weight_and_bias("visual.merger.ln_q", (dim,))
    tensors |= weight_and_bias("visual.merger.mlp.0", (width, width))
    tensors |= weight_and_bias("visual.merger.mlp.2", (config.hidden_size, width))
    return tensors


def vision_spec(config: VisionConfig, options: GraphOptions) -> Spec:
    """The graph ``vision_encoder``."""
    half = config.head_dim // 2
    most = options.image_tokens
    usual = min(USUAL_TOKENS, most)
    ratio = config.merge_size**2
    graph = Graph(
        file="vision_encoder.onnx",
        inputs=(
            floats("patches", 1, "patches", config.patch_width),
            floats("cos", "patches", half),
            floats("sin", "patches", half),
        ),
        outputs=(floats("features", 1, "tokens", config.hidden_size),),
        bounds={"patches": (ratio, ratio * usual, ratio * most), "tokens": (1, usual, most)},
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
    dim = config.embed_dim
    folds = []
    for index in range(config.depth):
        block = f"blocks.{index}"
        folds += joint_qkv_folds(f"{block}.norm1", f"{block}.attn", dim)
        folds.append(norm_fold(f"{block}.norm2", f"{block}.mlp.fc1.weight", width=dim))
    copies = config.merge_size**2
    folds.append(norm_fold("merger.ln_q", "merger.mlp.0.weight", width=dim, copies=copies))
    return tuple(folds)


class VisionEncoder(nn.Module):
    """The vision encoder, for one picture a batch row.

    ``patches`` (batch, patches, 1176) float32 in merge order, ``cos`` and ``sin`` (patches,
    head_dim / 2) -> features (batch, patches / 4, hidden) float32.
    """

    def __init__(self, config: VisionConfig, attention: AttentionType) -> None:
        super().__init__()
        attend = attention(Heads(config.num_heads, config.num_heads))
        self.patch_embed = Namespace()
        self.patch_embed.proj = Linear(config.patch_width, config.embed_dim, bias=False)
        self.blocks = nn.ModuleList(VisionBlock(config, attend) for _ in range(config.depth))
        self.merger = PatchMerger(config)

    def forward(self, patches: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = self.patch_embed.proj(patches).float()
        for block in self.blocks:
            x = block(x, (cos, sin))
        return self.merger(x)


class VisionBlock(nn.Module):
    """One layer: x (batch, patches, dim) float32 -> the same."""

    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = LayerNorm(dim, eps=1e-6)
        self.norm2 = LayerNorm(dim, eps=1e-6)
        self.attn = Namespace()
        self.attn.qkv = Linear(dim, 3 * dim)
        self.attn.proj = Linear(dim, dim)
        self.mlp = Namespace()
        self.mlp.fc1 = Linear(dim, config.mlp_dim)
        self.mlp.fc2 = Linear(config.mlp_dim, dim)
        self.attention = attention

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        qkv = self.attn.qkv(self.norm1(x))
        width = x.shape[-1]
        q = qkv[..., 0:width]
        k = qkv[..., width : 2 * width]
        v = qkv[..., 2 * width : 3 * width]
        x = x + self.attn.proj(self.attention.full(q, k, v, rope)).float()
        h = self.mlp.fc1(self.norm2(x))
        return x + self.mlp.fc2(h * torch.sigmoid(1.702 * h)).float()  # quick GELU


class PatchMerger(nn.Module):
    """Four neighbouring patches become one visual token: (batch, patches, dim) float32 -> (batch,
    patches / 4, hidden).
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.merged_width
        self.ln_q = LayerNorm(config.embed_dim, eps=1e-6)
        self.mlp = nn.Sequential(
            Linear(self.width, self.width), nn.GELU(), Linear(self.width, config.hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.ln_q(x).view(x.shape[0], -1, self.width)).float()
