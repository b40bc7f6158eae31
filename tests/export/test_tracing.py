"""What the trace is given, and what it says when it fails."""

from __future__ import annotations

import pytest
import torch

from vpt_edge.export.attention import PlainAttention
from vpt_edge.export.spec import Spec, floats
from vpt_edge.export.tracing import nest, trace
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.manifest import Graph


class Refusing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def spec(*names: str) -> Spec:
    graph = Graph("tiny.onnx", tuple(floats(name, 1) for name in names), (floats("y", 1),), {})
    return Spec(graph, lambda attention: Refusing(), lambda name: name)


def test_inputs_without_a_cache_stay_in_a_row() -> None:
    assert nest(spec("a", "b"), [1, 2]) == (1, 2)


def test_a_cache_is_nested_layer_by_layer() -> None:
    names = ("embeds", "past.0.key", "past.0.value", "past.1.key", "past.1.value")
    assert nest(spec(*names), [0, 1, 2, 3, 4]) == (0, [(1, 2), (3, 4)])
    assert nest(spec(*names, "filled"), [0, 1, 2, 3, 4, 5]) == (0, [(1, 2), (3, 4)], (5,))


def test_a_module_that_cannot_be_traced_is_named() -> None:
    with pytest.raises(ExportError, match=r"torch cannot export tiny\.onnx: "):
        trace(spec("x"), PlainAttention, torch.float32)
