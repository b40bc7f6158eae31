"""SAM's vision encoder, the re-encoder of Seg checkpoints: its geometry, tensors, graph and
folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt_edge.export.config_fields import (
    Count,
    Epsilon,
    Pixels,
    Width,
    read_fields,
    value_error,
)
from vpt_edge.export.config_files import expect_if_given, expect_unless_null, read_optional
from vpt_edge.export.layers import Conv2d, LayerNorm, Linear, Namespace, joint_qkv_folds, norm_fold
from vpt_edge.export.spec import Spec, floats, weight_and_bias
from vpt_edge.runtime.manifest import Graph
from vpt_edge.runtime.schema import Range

if TYPE_CHECKING:
    from vpt_edge.calibration.smoothing import Fold
    from vpt_edge.export.spec import Shape

CONFIG = "seg_model_config.json"
SIDE = 1024  # of the picture that the model is shown
PATCH = 16
EXPECTED = {
    "use_abs_pos": True,
    "use_rel_pos": True,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "num_channels": 3,
    "image_size": SIDE,
    "patch_size": PATCH,
    "output_channels": 256,
}
NOT_OTHERS = {"vision_config": None}  # of a whole SAM: its encoder's values stand one level deeper
ROOT = "seg_model"
PROJECTOR = "seg_projector"
STRIDE = 4  # of the projector's convolution: patches a side that become one token


@dataclass(frozen=True)
class SamConfig:
    """Geometry of SAM's encoder; the defaults are facebook/sam-vit-large, which the authors' code
    hard-wires.
    """

    hidden_size: Width = 1024
    num_hidden_layers: Count = 24
    num_attention_heads: Count = 16
    mlp_dim: Width = 4096
    patch_size: Pixels = PATCH
    window_size: Annotated[int, Range(1, SIDE // PATCH)] = 14
    global_attn_indexes: tuple[Annotated[int, Range(0, 999)], ...] = (5, 11, 17, 23)
    output_channels: Width = 256
    layer_norm_eps: Epsilon = 1e-6
    image_side = SIDE  # what it is shown

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image_side // self.patch_size

    def attention_side(self, layer: int) -> int:
        """Patches a side that see each other: all, or those of a window."""
        if layer in self.global_attn_indexes:
            return self.grid
        return self.window_size


def read_config(folder: Path) -> SamConfig:
    """The geometry that a file beside config.json tells, if there is one."""
    file = folder / CONFIG
    data = read_optional(file)
    expect_if_given(data, EXPECTED, file)
    expect_unless_null(data, NOT_OTHERS, file)
    config = read_fields(SamConfig, data, file)
    if config.hidden_size % config.num_attention_heads:
        expected = f"a divisor of hidden_size {config.hidden_size}"
        raise value_error(f"{file}: num_attention_heads", config.num_attention_heads, expected)
    layers = config.num_hidden_layers
    indexes = config.global_attn_indexes
    if "global_attn_indexes" in data and max(indexes, default=0) >= layers:
        expected = f"layers below {layers}"
        raise value_error(f"{file}: global_attn_indexes", list(indexes), expected)
    return config


def tensors(config: SamConfig, hidden_size: int) -> dict[str, Shape]:
    """Name and shape of every tensor (PROTOCOL 6), the projector's feature half included."""
    width = config.hidden_size
    out = config.output_channels
    patch = (width, 3, config.patch_size, config.patch_size)
    shapes: dict[str, Shape] = {f"{ROOT}.pos_embed": (1, config.grid, config.grid, width)}
    shapes |= weight_and_bias(f"{ROOT}.patch_embed.projection", patch)
    for index in range(config.num_hidden_layers):
        shapes |= _layer_tensors(config, index)
    shapes[f"{ROOT}.neck.conv1.weight"] = (out, width, 1, 1)
    shapes[f"{ROOT}.neck.conv2.weight"] = (out, out, 3, 3)
    shapes |= weight_and_bias(f"{ROOT}.neck.layer_norm1", (out,))
    shapes |= weight_and_bias(f"{ROOT}.neck.layer_norm2", (out,))
    shapes |= weight_and_bias(f"{PROJECTOR}.conv_feature", (hidden_size, out, STRIDE, STRIDE))
    shapes |= weight_and_bias(f"{PROJECTOR}.linear_feature", (hidden_size, out))
    shapes |= weight_and_bias(f"{PROJECTOR}.layernorm_feature", (out,))
    return shapes


def _layer_tensors(config: SamConfig, index: int) -> dict[str, Shape]:
    width = config.hidden_size
    layer = f"{ROOT}.layers.{index}"
    relative = (2 * config.attention_side(index) - 1, width // config.num_attention_heads)
    shapes: dict[str, Shape] = {
        f"{layer}.attn.rel_pos_h": relative,
        f"{layer}.attn.rel_pos_w": relative,
    }
    shapes |= weight_and_bias(f"{layer}.attn.qkv", (3 * width, width))
    shapes |= weight_and_bias(f"{layer}.attn.proj", (width, width))
    shapes |= weight_and_bias(f"{layer}.layer_norm1", (width,))
    shapes |= weight_and_bias(f"{layer}.layer_norm2", (width,))
    shapes |= weight_and_bias(f"{layer}.mlp.lin1", (config.mlp_dim, width))
    shapes |= weight_and_bias(f"{layer}.mlp.lin2", (width, config.mlp_dim))
    return shapes


def spec(config: SamConfig, hidden_size: int) -> Spec:
    """The graph ``reencoder_features`` of a language model of ``hidden_size``."""
    side = config.image_side
    tokens = (config.grid // STRIDE) ** 2
    graph = Graph(
        file="reencoder_features.onnx",
        inputs=(floats("pixels", 1, 3, side, side),),
        outputs=(floats("features", 1, tokens, hidden_size),),
        bounds={},
    )
    return Spec(
        graph,
        lambda attention: SegmentationFeatures(config, hidden_size),  # its attention is its own
        lambda name: name,
        folds=folds(config),
    )


def folds(config: SamConfig) -> tuple[Fold, ...]:
    """Where smoothing folds into the module's parameters."""
    width = config.hidden_size
    places = []
    for index in range(config.num_hidden_layers):
        layer = f"{ROOT}.layers.{index}"
        places += joint_qkv_folds(f"{layer}.layer_norm1", f"{layer}.attn", width)
        places.append(norm_fold(f"{layer}.layer_norm2", f"{layer}.mlp.lin1.weight", width=width))
    return tuple(places)


class SegmentationFeatures(nn.Module):
    """SAM's encoder and the projector's feature half: pixels (batch, 3, 1024, 1024) -> (batch, 256,
    hidden).
    """

    def __init__(self, config: SamConfig, hidden_size: int) -> None:
        super().__init__()
        self.seg_model = SamEncoder(config)
        self.seg_projector = Namespace()
        self.seg_projector.layernorm_feature = LayerNorm(config.output_channels, eps=1e-5)
        self.seg_projector.conv_feature = Conv2d(
            config.output_channels, hidden_size, STRIDE, stride=STRIDE
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = channel_norm(self.seg_projector.layernorm_feature, self.seg_model(pixels))
        return self.seg_projector.conv_feature(x).flatten(2).transpose(1, 2)


def channel_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """A layer norm over the channels of (batch, channels, height, width)."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SamEncoder(nn.Module):
    """SAM's vision encoder with its neck: pixels (batch, 3, 1024, 1024) -> (batch, 256, 64, 64)."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        width = config.hidden_size
        patch = config.patch_size
        out = config.output_channels
        self.patch_embed = Namespace()
        self.patch_embed.projection = Conv2d(3, width, patch, stride=patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, width))
        self.layers = nn.ModuleList(
            SamLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.neck = Namespace()
        self.neck.conv1 = Conv2d(width, out, 1, bias=False)
        self.neck.layer_norm1 = LayerNorm(out, eps=1e-6)
        self.neck.conv2 = Conv2d(out, out, 3, padding=1, bias=False)
        self.neck.layer_norm2 = LayerNorm(out, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed.projection(pixels).permute(0, 2, 3, 1)  # (batch, side, side, width)
        x = x + self.pos_embed.float()
        for layer in self.layers:
            x = layer(x)
        x = channel_norm(self.neck.layer_norm1, self.neck.conv1(x.permute(0, 3, 1, 2)))
        return channel_norm(self.neck.layer_norm2, self.neck.conv2(x))


class SamLayer(nn.Module):
    """One layer: x (batch, side, side, width) float32 -> the same."""

    def __init__(self, config: SamConfig, index: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.grid = config.grid
        self.side = config.attention_side(index)
        self.is_windowed = index not in config.global_attn_indexes
        self.layer_norm1 = LayerNorm(width, eps=config.layer_norm_eps)
        self.layer_norm2 = LayerNorm(width, eps=config.layer_norm_eps)
        self.attn = Namespace()
        relative = (2 * self.side - 1, width // self.heads)
        self.attn.rel_pos_h = nn.Parameter(torch.zeros(relative))
        self.attn.rel_pos_w = nn.Parameter(torch.zeros(relative))
        self.attn.qkv = Linear(width, 3 * width)
        self.attn.proj = Linear(width, width)
        self.mlp = Namespace()
        self.mlp.lin1 = Linear(width, config.mlp_dim)
        self.mlp.lin2 = Linear(config.mlp_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer_norm1(x)
        attend = self.attend_windows if self.is_windowed else self.attend
        x = x + attend(h)
        return x + self.mlp.lin2(F.gelu(self.mlp.lin1(self.layer_norm2(x)))).float()

    def attend_windows(self, x: Tensor) -> Tensor:
        """Attention within windows; the grid is padded with zeros to a multiple of the window."""
        batch = x.shape[0]
        side = self.grid
        window = self.side
        count = -(-side // window)
        pad = count * window - side
        x = F.pad(x, (0, 0, 0, pad, 0, pad)).view(batch, count, window, count, window, -1)
        x = self.attend(x.transpose(2, 3).reshape(batch * count * count, window, window, -1))
        x = x.view(batch, count, count, window, window, -1).transpose(2, 3)
        return x.reshape(batch, count * window, count * window, -1)[:, :side, :side]

    def attend(self, x: Tensor) -> Tensor:
        """Attention with decomposed relative positions: (batch, side, side, width) -> the same."""
        side = self.side
        qkv = self.attn.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, side², dim)
        place = torch.arange(side, device=x.device)
        # (side, side) rows of the relative tables
        offset = place[:, None] - place[None, :] + side - 1
        grid = q.float().unflatten(2, (side, side))  # (batch, heads, side, side, dim)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, self.attn.rel_pos_h.float()[offset])
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, self.attn.rel_pos_w.float()[offset])
        scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()
        scores = scores.unflatten(2, (side, side)).unflatten(-1, (side, side))
        scores = scores + rows[..., None] + columns[..., None, :]
        out = scores.flatten(4).flatten(2, 3).softmax(-1).to(v.dtype) @ v
        return self.attn.proj(out.transpose(1, 2).flatten(2)).float().view(x.shape)
