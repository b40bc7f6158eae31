"""Building blocks of the models' torch modules, made to be exported.

Parameter names are those of the checkpoint below a graph's prefix (``visual.``, ``model.``, ...),
so that a ``state_dict`` moves between the two without a table of names. All modules take a leading
batch dimension; the exported graphs fix it to one.

The residual stream, norms, rotary embedding and softmax compute in float32 in every precision,
whatever dtype their weights are stored in. A ``Linear`` or ``Conv2d`` computes in the dtype of its
weight.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt_edge.calibration.smoothing import Fold


class Namespace(nn.Module):
    """Groups modules and parameters as the checkpoint's names do."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Linear(nn.Linear):
    """``y = x W^T + b`` in the dtype of ``W``; the result keeps that dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """A convolution in the dtype of its weight; the result is float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).float()


class LayerNorm(nn.LayerNorm):
    """A layer norm over the last axis, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        weight = self.weight.float()
        return F.layer_norm(x, self.normalized_shape, weight, self.bias.float(), self.eps)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()


class GatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``: x (batch, seq, size) -> the same, in float32."""

    def __init__(self, size: int, between: int, *, bias: bool) -> None:
        super().__init__()
        self.gate_proj = Linear(size, between, bias=bias)
        self.up_proj = Linear(size, between, bias=bias)
        self.down_proj = Linear(between, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gated = F.silu(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(gated).float()


def gelu(x: Tensor) -> Tensor:
    """x Phi(x), written as ONNX Runtime recognizes it: torch's own export stays five operators."""
    return x * 0.5 * (1.0 + torch.erf(x / 2**0.5))


class GELU(nn.Module):
    """``gelu`` as a part of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


def tanh_gelu(x: Tensor) -> Tensor:
    """The approximation of ``gelu`` that PyTorch calls tanh, written likewise."""
    return x * 0.5 * (1.0 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x.pow(3))))


def norm_fold(name: str, *consumers: str, width: int, copies: int = 1) -> Fold:
    """A layer norm in front of matmuls that see its channels ``copies`` times, one behind the
    other.
    """
    return Fold((f"{name}.weight", f"{name}.bias"), consumers, tuple(range(width)) * copies)


def joint_qkv_folds(norm: str, attention: str, width: int) -> list[Fold]:
    """A norm in front of a joint qkv matmul, and its values in front of the output matmul."""
    qkv = f"{attention}.qkv"
    values = Fold(
        (f"{qkv}.weight", f"{qkv}.bias"),
        (f"{attention}.proj.weight",),
        tuple(range(width)),
        start=2 * width,
    )
    return [norm_fold(norm, f"{qkv}.weight", width=width), values]
