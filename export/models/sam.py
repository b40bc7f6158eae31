"""SAM's vision encoder, the re-encoder of Seg checkpoints, made to be exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt_edge.export.layers import Conv2d, LayerNorm, Linear, Parts

if TYPE_CHECKING:
    from vpt_edge.export.config_files import SamConfig
    from vpt_edge.export.layers import Derived


class SegmentationFeatures(nn.Module):
    """SAM's encoder and the projector's feature half: pixels (batch, 3, 1024, 1024) -> (batch, 256,
    hidden)."""

    derived: Derived = {}

    def __init__(self, config: SamConfig, hidden_size: int) -> None:
        super().__init__()
        self.seg_model = SamEncoder(config)
        self.seg_projector = Parts()
        self.seg_projector.layernorm_feature = LayerNorm(config.output_channels, eps=1e-5)
        self.seg_projector.conv_feature = Conv2d(config.output_channels, hidden_size, 4, stride=4)

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
        width, patch, out = config.hidden_size, config.patch_size, config.output_channels
        self.patch_embed = Parts()
        self.patch_embed.projection = Conv2d(3, width, patch, stride=patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, width))
        self.layers = nn.ModuleList(
            SamLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.neck = Parts()
        self.neck.conv1 = Conv2d(width, out, 1, bias=False)
        self.neck.layer_norm1 = LayerNorm(out, eps=1e-6)
        self.neck.conv2 = Conv2d(out, out, 3, padding=1, bias=False)
        self.neck.layer_norm2 = LayerNorm(out, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = (
            self.patch_embed.projection(pixels).permute(0, 2, 3, 1) + self.pos_embed.float()
        )  # (batch, side, side, width)
        for layer in self.layers:
            x = layer(x)
        x = channel_norm(self.neck.layer_norm1, self.neck.conv1(x.permute(0, 3, 1, 2)))
        return channel_norm(self.neck.layer_norm2, self.neck.conv2(x))


class SamLayer(nn.Module):
    def __init__(self, config: SamConfig, index: int) -> None:
        super().__init__()
        width, self.heads, self.grid = config.hidden_size, config.num_attention_heads, config.grid
        self.window = 0 if index in config.global_attn_indexes else config.window_size
        self.side = self.window or config.grid
        self.layer_norm1 = LayerNorm(width, eps=config.layer_norm_eps)
        self.layer_norm2 = LayerNorm(width, eps=config.layer_norm_eps)
        self.attn = Parts()
        self.attn.rel_pos_h = nn.Parameter(torch.zeros(2 * self.side - 1, width // self.heads))
        self.attn.rel_pos_w = nn.Parameter(torch.zeros(2 * self.side - 1, width // self.heads))
        self.attn.qkv, self.attn.proj = Linear(width, 3 * width), Linear(width, width)
        self.mlp = Parts()
        self.mlp.lin1, self.mlp.lin2 = Linear(width, config.mlp_dim), Linear(config.mlp_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer_norm1(x)
        x = x + (self.windowed(h) if self.window else self.attend(h))
        return x + self.mlp.lin2(F.gelu(self.mlp.lin1(self.layer_norm2(x)))).float()

    def windowed(self, x: Tensor) -> Tensor:
        """Attention within windows; the grid is padded with zeros to a multiple of the window."""
        batch, (side, window) = x.shape[0], (self.grid, self.window)
        count = -(-side // window)
        pad = count * window - side
        x = F.pad(x, (0, 0, 0, pad, 0, pad)).view(batch, count, window, count, window, -1)
        x = self.attend(x.transpose(2, 3).reshape(batch * count * count, window, window, -1))
        x = x.view(batch, count, count, window, window, -1).transpose(2, 3)
        return x.reshape(batch, count * window, count * window, -1)[:, :side, :side]

    def attend(self, x: Tensor) -> Tensor:
        """Attention with decomposed relative positions: x (batch, side, side, width) -> the same."""
        side = self.side
        q, k, v = (
            self.attn.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        place = torch.arange(side, device=x.device)
        offset = (
            place[:, None] - place[None, :] + side - 1
        )  # (side, side) rows of the relative tables
        grid = q.float().unflatten(2, (side, side))  # (batch, heads, side, side, dim)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, self.attn.rel_pos_h.float()[offset])
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, self.attn.rel_pos_w.float()[offset])
        scores = (
            ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float().unflatten(2, (side, side))
        )
        scores = scores.unflatten(-1, (side, side)) + rows[..., None] + columns[..., None, :]
        out = (
            scores.flatten(4).flatten(2, 3).softmax(-1).to(v.dtype) @ v
        )  # (batch, heads, side², dim)
        return self.attn.proj(out.transpose(1, 2).flatten(2)).float().view(x.shape)
