"""Qwen3-VL's vision encoder: its tensors, its graph, and where smoothing folds into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt_edge.export.attention import Heads
from vpt_edge.export.layers import (
    LayerNorm,
    Linear,
    Namespace,
    gelu,
    joint_qkv_folds,
    norm_fold,
    tanh_gelu,
)
from vpt_edge.export.spec import GraphOptions, Spec, weight_and_bias
from vpt_edge.runtime.manifest import Graph
from vpt_edge.runtime.models import qwen3_vl

if TYPE_CHECKING:
    from vpt_edge.calibration.smoothing import Fold
    from vpt_edge.export.attention import Attention, AttentionType, Rope
    from vpt_edge.export.models.qwen3_vl.config import VisionConfig
    from vpt_edge.export.spec import Shape

USUAL_TOKENS = 256  # of a picture: what an engine is tuned for
EPSILON = 1e-6  # of each norm


def vision_tensors(config: VisionConfig) -> dict[str, Shape]:
    """Name and shape of every tensor."""
    dim = config.hidden_size
    between = config.intermediate_size
    patch = (config.temporal_patch_size, config.patch_size, config.patch_size)
    tensors = weight_and_bias("visual.patch_embed.proj", (dim, config.in_channels, *patch))
    tensors["visual.pos_embed.weight"] = (config.num_position_embeddings, dim)
    for index in range(config.depth):
        block = f"visual.blocks.{index}"
        tensors |= weight_and_bias(f"{block}.norm1", (dim,))
        tensors |= weight_and_bias(f"{block}.norm2", (dim,))
        tensors |= weight_and_bias(f"{block}.attn.qkv", (3 * dim, dim))
        tensors |= weight_and_bias(f"{block}.attn.proj", (dim, dim))
        tensors |= weight_and_bias(f"{block}.mlp.linear_fc1", (between, dim))
        tensors |= weight_and_bias(f"{block}.mlp.linear_fc2", (dim, between))
    tensors |= _merger_tensors("visual.merger", config, dim)
    for level in range(config.levels):
        name = f"visual.deepstack_merger_list.{level}"
        tensors |= _merger_tensors(name, config, config.merged_width)
    return tensors


def _merger_tensors(name: str, config: VisionConfig, norm_width: int) -> dict[str, Shape]:
    width = config.merged_width
    return {
        **weight_and_bias(f"{name}.norm", (norm_width,)),
        **weight_and_bias(f"{name}.linear_fc1", (width, width)),
        **weight_and_bias(f"{name}.linear_fc2", (config.out_hidden_size, width)),
    }


def vision_spec(config: VisionConfig, options: GraphOptions) -> Spec:
    """The graph ``vision_encoder``."""
    most = options.image_tokens
    usual = min(USUAL_TOKENS, most)
    ratio = config.spatial_merge_size**2
    inputs, outputs = qwen3_vl.vision_tensors(
        config.head_dim, config.levels, config.out_hidden_size
    )
    graph = Graph(
        file="vision_encoder.onnx",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
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
    dim = config.hidden_size
    folds = []
    for index in range(config.depth):
        block = f"blocks.{index}"
        folds += joint_qkv_folds(f"{block}.norm1", f"{block}.attn", dim)
        folds.append(norm_fold(f"{block}.norm2", f"{block}.mlp.linear_fc1.weight", width=dim))
    copies = config.spatial_merge_size**2
    folds.append(norm_fold("merger.norm", "merger.linear_fc1.weight", width=dim, copies=copies))
    for level in range(config.levels):
        merger = f"deepstack_merger_list.{level}"
        fold = norm_fold(f"{merger}.norm", f"{merger}.linear_fc1.weight", width=copies * dim)
        folds.append(fold)
    return tuple(folds)


class VisionEncoder(nn.Module):
    """The vision encoder, for one picture: a batch of one row.

    ``patches`` (1, patches, 1536) float32 in merge order, ``cos`` and ``sin`` (patches,
    head_dim / 2), ``taps`` (patches, 4) int64: the rows of the learned positions that a patch lies
    between, and ``shares`` (patches, 4): what it takes of each -> features (1, patches / 4, hidden)
    and the deep features (levels, patches / 4, hidden), float32.
    """

    def __init__(self, config: VisionConfig, attention: AttentionType) -> None:
        super().__init__()
        dim = config.hidden_size
        attend = attention(Heads(config.num_heads, config.num_heads))
        self.levels = config.deepstack_visual_indexes
        self.patch_embed = Namespace()
        self.patch_embed.proj = Linear(config.patch_width, dim)
        self.pos_embed = Namespace()
        self.pos_embed.weight = nn.Parameter(torch.zeros(config.num_position_embeddings, dim))
        self.blocks = nn.ModuleList(VisionBlock(config, attend) for _ in range(config.depth))
        self.merger = PatchMerger(config, dim)
        self.deepstack_merger_list = nn.ModuleList(
            PatchMerger(config, config.merged_width) for _ in self.levels
        )

    def forward(
        self, patches: Tensor, cos: Tensor, sin: Tensor, taps: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = self.patch_embed.proj(patches).float() + self._positions(taps, shares)
        behind = dict[int, Tensor]()
        for index, block in enumerate(self.blocks):
            x = block(x, (cos, sin))
            behind[index] = x
        deep = [
            merger(behind[index])
            for index, merger in zip(self.levels, self.deepstack_merger_list, strict=True)
        ]
        return self.merger(x), torch.cat(deep)

    def _positions(self, taps: Tensor, shares: Tensor) -> Tensor:
        """The learned positions between four rows each: (patches, dim), one row after the other so
        that no more than two of them are in memory.
        """
        table = self.pos_embed.weight
        positions = F.embedding(taps[:, 0], table).float() * shares[:, 0:1]
        for tap in range(1, qwen3_vl.TAPS):
            rows = F.embedding(taps[:, tap], table).float()
            positions = positions + rows * shares[:, tap : tap + 1]
        return positions


class VisionBlock(nn.Module):
    """One layer: x (1, patches, dim) float32 -> the same."""

    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        dim = config.hidden_size
        self.norm1 = LayerNorm(dim, eps=EPSILON)
        self.norm2 = LayerNorm(dim, eps=EPSILON)
        self.attn = Namespace()
        self.attn.qkv = Linear(dim, 3 * dim)
        self.attn.proj = Linear(dim, dim)
        self.mlp = Namespace()
        self.mlp.linear_fc1 = Linear(dim, config.intermediate_size)
        self.mlp.linear_fc2 = Linear(config.intermediate_size, dim)
        self.attention = attention

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        qkv = self.attn.qkv(self.norm1(x))
        width = x.shape[-1]
        q = qkv[..., 0:width]
        k = qkv[..., width : 2 * width]
        v = qkv[..., 2 * width : 3 * width]
        x = x + self.attn.proj(self.attention.full(q, k, v, rope)).float()
        h = tanh_gelu(self.mlp.linear_fc1(self.norm2(x)))
        return x + self.mlp.linear_fc2(h).float()


class PatchMerger(nn.Module):
    """Four neighbouring patches become one visual token: (1, patches, dim) float32 -> (1,
    patches / 4, hidden).

    The norm is over ``norm_width`` channels: those of a patch, or of all four.
    """

    def __init__(self, config: VisionConfig, norm_width: int) -> None:
        super().__init__()
        self.width = config.merged_width
        self.norm_width = norm_width
        self.norm = LayerNorm(norm_width, eps=EPSILON)
        self.linear_fc1 = Linear(self.width, self.width)
        self.linear_fc2 = Linear(self.width, config.out_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x.reshape(x.shape[0], -1, self.norm_width))
        merged = normed.reshape(x.shape[0], -1, self.width)
        return self.linear_fc2(gelu(self.linear_fc1(merged))).float()
