"""Activations that one operator of ONNX Runtime computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import pytest
import torch
from operators import operators_of
from torch import Tensor, nn

from vpt_edge.export.layers import Linear, gelu, tanh_gelu
from vpt_edge.export.spec import Spec, floats
from vpt_edge.runtime.manifest import Graph

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Activation: TypeAlias = "Callable[[Tensor], Tensor]"

WIDTH = 8
APPROXIMATION: dict[Activation, str] = {gelu: "none", tanh_gelu: "tanh"}
OPERATORS: dict[Activation, set[str]] = {gelu: {"Gelu", "BiasGelu"}, tanh_gelu: {"FastGelu"}}


class Layers(nn.Module):
    """An activation between two matmuls, as in every MLP."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.first = Linear(WIDTH, WIDTH)
        self.second = Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.activation(self.first(x)))


@pytest.mark.parametrize("activation", APPROXIMATION)
def test_it_is_torchs(activation: Activation) -> None:
    x = torch.linspace(-12, 12, 2001)
    expected = nn.functional.gelu(x, approximate=APPROXIMATION[activation])
    torch.testing.assert_close(activation(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", APPROXIMATION)
def test_in_half_precision_no_number_is_too_large(activation: Activation) -> None:
    x = torch.tensor([-60000.0, -200.0, -40.0, 40.0, 200.0, 60000.0], dtype=torch.float16)
    torch.testing.assert_close(activation(x), x.clamp(min=0), rtol=0, atol=0)


@pytest.mark.parametrize("activation", APPROXIMATION)
def test_onnxruntime_makes_one_operator_of_it(activation: Activation, tmp_path: Path) -> None:
    shape = (1, "tokens", WIDTH)
    graph = Graph(
        "layers.onnx", (floats("x", *shape),), (floats("y", *shape),), {"tokens": (1, 4, 8)}
    )
    spec = Spec(graph, lambda attention: Layers(activation), lambda name: name)
    others = set(operators_of(spec, tmp_path)) - {"MatMul", "Add", "Gemm"}
    assert others
    assert others <= OPERATORS[activation]
