"""DINOv2, the re-encoder of Det checkpoints, made to be exported."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt_edge.export.layers import Conv2d, LayerNorm, Linear, Parts

if TYPE_CHECKING:
    from vpt_edge.export.config_files import Dinov2Config
    from vpt_edge.export.layers import Attention, Derived


class DetectionFeatures(nn.Module):
    """DINOv2 and the projector's feature half: pixels (batch, 3, 224, 224) -> features (batch, 256,
    hidden)."""

    def __init__(self, config: Dinov2Config, hidden_size: int, attention: Attention) -> None:
        super().__init__()
        self.detection_model = Dinov2(config, attention)
        self.detection_projector = Parts()
        self.detection_projector.layernorm_feature = LayerNorm(config.hidden_size, eps=1e-5)
        self.detection_projector.linear_feature = Linear(config.hidden_size, hidden_size)
        name = "detection_model.embeddings.position_embeddings"
        self.derived: Derived = {name: lambda table: resample_positions(table, config.grid)}

    def forward(self, pixels: Tensor) -> Tensor:
        projector = self.detection_projector
        return projector.linear_feature(
            projector.layernorm_feature(self.detection_model(pixels))
        ).float()


def resample_positions(table: Tensor, grid: int) -> Tensor:
    """DINOv2's position table (1, 1 + side², width), resampled to ``grid`` x ``grid`` patches
    (PROTOCOL 4)."""
    side = math.isqrt(table.shape[1] - 1)
    patches = table[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat((table[:, :1].float(), patches.flatten(2).transpose(1, 2)), dim=1)


class Dinov2(nn.Module):
    """DINOv2 without its class token at the end: pixels (batch, 3, side, side) -> (batch, patches,
    width)."""

    def __init__(self, config: Dinov2Config, attention: Attention) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.embeddings = Parts()
        self.embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.embeddings.position_embeddings = nn.Parameter(
            torch.zeros(1, 1 + config.grid**2, width)
        )
        self.embeddings.patch_embeddings = Parts()
        self.embeddings.patch_embeddings.projection = Conv2d(3, width, patch, stride=patch)
        self.encoder = Parts()
        self.encoder.layer = nn.ModuleList(
            Dinov2Layer(config, attention) for _ in range(config.num_hidden_layers)
        )
        self.layernorm = LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.embeddings.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        x = torch.cat(
            (self.embeddings.cls_token.float().expand(pixels.shape[0], -1, -1), patches), dim=1
        )
        x = x + self.embeddings.position_embeddings.float()
        for layer in self.encoder.layer:
            x = layer(x)
        return self.layernorm(x)[:, 1:]


class Dinov2Layer(nn.Module):
    def __init__(self, config: Dinov2Config, attention: Attention) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm1 = LayerNorm(width, eps=config.layer_norm_eps)
        self.norm2 = LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = Parts()
        self.attention.attention = Parts()
        for name in ("query", "key", "value"):
            setattr(self.attention.attention, name, Linear(width, width))
        self.attention.output = Parts()
        self.attention.output.dense = Linear(width, width)
        self.layer_scale1, self.layer_scale2 = Parts(), Parts()
        self.layer_scale1.lambda1 = nn.Parameter(torch.ones(width))
        self.layer_scale2.lambda1 = nn.Parameter(torch.ones(width))
        self.mlp = Parts()
        self.mlp.fc1, self.mlp.fc2 = Linear(width, config.mlp_dim), Linear(config.mlp_dim, width)
        self.emitter, self.heads = attention, config.num_attention_heads

    def forward(self, x: Tensor) -> Tensor:
        h, qkv = self.norm1(x), self.attention.attention
        out = self.emitter.full(qkv.query(h), qkv.key(h), qkv.value(h), self.heads)
        x = x + self.attention.output.dense(out).float() * self.layer_scale1.lambda1.float()
        return (
            x
            + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x)))).float()
            * self.layer_scale2.lambda1.float()
        )
