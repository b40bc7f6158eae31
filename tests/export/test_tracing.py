"""What the trace is given, and what it says when it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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


class Interrupted(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt


def wrap_cause(error: BaseException) -> Exception:
    outer = RuntimeError("while tracing")
    outer.__cause__ = ValueError("in between")
    outer.__cause__.__context__ = error
    return outer


def wrap_context(error: BaseException) -> Exception:
    outer = RuntimeError("while tracing")
    outer.__context__ = error
    error.__context__ = outer  # a circle
    return outer


@pytest.mark.parametrize("wrap", [wrap_cause, wrap_context])
def test_ctrl_c_that_the_tracer_wraps_is_ctrl_c(
    wrap: Callable[[BaseException], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise wrap(KeyboardInterrupt())

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(KeyboardInterrupt):
        trace(spec("x"), PlainAttention, torch.float32)


def test_ctrl_c_within_a_module_is_ctrl_c() -> None:
    tiny = replace(spec("x"), build=lambda attention: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        trace(tiny, PlainAttention, torch.float32)
