"""DINOv2, the re-encoder of Det checkpoints: its geometry, tensors, graph and folds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt_edge.calibration.smoothing import Fold
from vpt_edge.export.attention import Heads
from vpt_edge.export.config_fields import (
    Count,
    Epsilon,
    Pixels,
    Ratio,
    Width,
    read_fields,
    value_error,
)
from vpt_edge.export.config_files import expect_if_given, expect_unless_null, read_optional
from vpt_edge.export.layers import Conv2d, LayerNorm, Linear, Namespace, norm_fold
from vpt_edge.export.spec import Spec, floats, weight_and_bias
from vpt_edge.runtime.manifest import Graph

if TYPE_CHECKING:
    from vpt_edge.export.attention import Attention, AttentionType
    from vpt_edge.export.spec import Shape

CONFIG = "detection_model_config.json"
PATCH = 14  # of the pixels that the model is shown, 16 x 16 become a feature each
EXPECTED = {
    "use_swiglu_ffn": False,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "num_channels": 3,
    "patch_size": PATCH,
}
NOT_OTHERS = {"model_type": "dinov2", "num_register_tokens": 0}
ROOT = "detection_model"
PROJECTOR = "detection_projector"
POSITIONS = f"{ROOT}.embeddings.position_embeddings"


@dataclass(frozen=True)
class Dinov2Config:
    """Geometry of DINOv2; the defaults are facebook/dinov2-large, which the authors' code hard-
    wires.
    """

    hidden_size: Width = 1024
    num_hidden_layers: Count = 24
    num_attention_heads: Count = 16
    mlp_ratio: Ratio = 4
    patch_size: Pixels = PATCH
    image_size: Pixels = 518
    layer_norm_eps: Epsilon = 1e-6
    image_side = 224  # what it is shown

    @property
    def mlp_dim(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image_side // self.patch_size


def read_config(folder: Path) -> Dinov2Config:
    """The geometry that a file beside config.json tells, if there is one."""
    file = folder / CONFIG
    data = read_optional(file)
    expect_if_given(data, EXPECTED, file)
    expect_unless_null(data, NOT_OTHERS, file)
    config = read_fields(Dinov2Config, data, file)
    if config.hidden_size % config.num_attention_heads:
        expected = f"a divisor of hidden_size {config.hidden_size}"
        raise value_error(f"{file}: num_attention_heads", config.num_attention_heads, expected)
    return config


def tensors(config: Dinov2Config, hidden_size: int) -> dict[str, Shape]:
    """Name and shape of every tensor (PROTOCOL 6), the projector's feature half included."""
    width = config.hidden_size
    embeddings = f"{ROOT}.embeddings"
    positions = 1 + (config.image_size // config.patch_size) ** 2
    patch = (width, 3, config.patch_size, config.patch_size)
    shapes: dict[str, Shape] = {
        f"{embeddings}.cls_token": (1, 1, width),
        f"{embeddings}.mask_token": (1, width),
        f"{embeddings}.position_embeddings": (1, positions, width),
    }
    shapes |= weight_and_bias(f"{embeddings}.patch_embeddings.projection", patch)
    for index in range(config.num_hidden_layers):
        shapes |= _layer_tensors(config, f"{ROOT}.encoder.layer.{index}")
    shapes |= weight_and_bias(f"{ROOT}.layernorm", (width,))
    shapes |= weight_and_bias(f"{PROJECTOR}.linear_feature", (hidden_size, width))
    shapes |= weight_and_bias(f"{PROJECTOR}.layernorm_feature", (width,))
    return shapes


def _layer_tensors(config: Dinov2Config, layer: str) -> dict[str, Shape]:
    width = config.hidden_size
    shapes: dict[str, Shape] = {}
    for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
        shapes |= weight_and_bias(f"{layer}.attention.{part}", (width, width))
    for index in (1, 2):
        shapes |= weight_and_bias(f"{layer}.norm{index}", (width,))
        shapes[f"{layer}.layer_scale{index}.lambda1"] = (width,)
    shapes |= weight_and_bias(f"{layer}.mlp.fc1", (config.mlp_dim, width))
    shapes |= weight_and_bias(f"{layer}.mlp.fc2", (width, config.mlp_dim))
    return shapes


def spec(config: Dinov2Config, hidden_size: int) -> Spec:
    """The graph ``reencoder_features`` of a language model of ``hidden_size``."""
    side = config.image_side
    graph = Graph(
        file="reencoder_features.onnx",
        inputs=(floats("pixels", 1, 3, side, side),),
        outputs=(floats("features", 1, config.grid**2, hidden_size),),
        bounds={},
    )
    return Spec(
        graph,
        lambda attention: DetectionFeatures(config, hidden_size, attention),
        lambda name: name,
        weight_transforms={POSITIONS: lambda table: resample_positions(table, config.grid)},
        folds=folds(config),
    )


def folds(config: Dinov2Config) -> tuple[Fold, ...]:
    """Where smoothing folds into the module's parameters."""
    width = config.hidden_size
    every = tuple(range(width))
    places = []
    for index in range(config.num_hidden_layers):
        layer = f"{ROOT}.encoder.layer.{index}"
        attention = f"{layer}.attention.attention"
        queries = tuple(f"{attention}.{part}.weight" for part in ("query", "key", "value"))
        value = (f"{attention}.value.weight", f"{attention}.value.bias")
        places += [
            norm_fold(f"{layer}.norm1", *queries, width=width),
            Fold(value, (f"{layer}.attention.output.dense.weight",), every),
            norm_fold(f"{layer}.norm2", f"{layer}.mlp.fc1.weight", width=width),
        ]
    feature = f"{PROJECTOR}.linear_feature.weight"
    places.append(norm_fold(f"{PROJECTOR}.layernorm_feature", feature, width=width))
    return tuple(places)


class DetectionFeatures(nn.Module):
    """DINOv2 and the projector's feature half: pixels (batch, 3, 224, 224) -> features (batch, 256,
    hidden).
    """

    def __init__(self, config: Dinov2Config, hidden_size: int, attention: AttentionType) -> None:
        super().__init__()
        self.detection_model = Dinov2(config, attention)
        self.detection_projector = Namespace()
        self.detection_projector.layernorm_feature = LayerNorm(config.hidden_size, eps=1e-5)
        self.detection_projector.linear_feature = Linear(config.hidden_size, hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        projector = self.detection_projector
        x = projector.layernorm_feature(self.detection_model(pixels))
        return projector.linear_feature(x).float()


def resample_positions(table: Tensor, grid: int) -> Tensor:
    """DINOv2's position table (1, 1 + side², width), resampled to ``grid`` x ``grid`` patches
    (PROTOCOL 4).
    """
    side = math.isqrt(table.shape[1] - 1)
    patches = table[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat((table[:, :1].float(), patches.flatten(2).transpose(1, 2)), dim=1)


class Dinov2(nn.Module):
    """DINOv2 without its class token at the end: pixels (batch, 3, side, side) -> (batch, patches,
    width).
    """

    def __init__(self, config: Dinov2Config, attention: AttentionType) -> None:
        super().__init__()
        width = config.hidden_size
        patch = config.patch_size
        heads = config.num_attention_heads
        attend = attention(Heads(heads, heads))
        self.embeddings = Namespace()
        self.embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.embeddings.position_embeddings = nn.Parameter(
            torch.zeros(1, 1 + config.grid**2, width)
        )
        self.embeddings.patch_embeddings = Namespace()
        self.embeddings.patch_embeddings.projection = Conv2d(3, width, patch, stride=patch)
        self.encoder = Namespace()
        self.encoder.layer = nn.ModuleList(
            Dinov2Layer(config, attend) for _ in range(config.num_hidden_layers)
        )
        self.layernorm = LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.embeddings.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        first = self.embeddings.cls_token.float().expand(pixels.shape[0], -1, -1)
        x = torch.cat((first, patches), dim=1)
        x = x + self.embeddings.position_embeddings.float()
        for layer in self.encoder.layer:
            x = layer(x)
        return self.layernorm(x)[:, 1:]


class Dinov2Layer(nn.Module):
    """One layer: x (batch, 1 + patches, width) float32 -> the same."""

    def __init__(self, config: Dinov2Config, attention: Attention) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm1 = LayerNorm(width, eps=config.layer_norm_eps)
        self.norm2 = LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = Namespace()
        self.attention.attention = Namespace()
        for name in ("query", "key", "value"):
            setattr(self.attention.attention, name, Linear(width, width))
        self.attention.output = Namespace()
        self.attention.output.dense = Linear(width, width)
        self.layer_scale1 = Namespace()
        self.layer_scale1.lambda1 = nn.Parameter(torch.ones(width))
        self.layer_scale2 = Namespace()
        self.layer_scale2.lambda1 = nn.Parameter(torch.ones(width))
        self.mlp = Namespace()
        self.mlp.fc1 = Linear(width, config.mlp_dim)
        self.mlp.fc2 = Linear(config.mlp_dim, width)
        self.attend = attention

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        qkv = self.attention.attention
        out = self.attend.full(qkv.query(h), qkv.key(h), qkv.value(h))
        x = x + self.attention.output.dense(out).float() * self.layer_scale1.lambda1.float()
        h = self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))
        return x + h.float() * self.layer_scale2.lambda1.float()
