"""Activations rounded to 8 bits in a graph, once for all matmuls that take the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vpt_edge.export.quantization.initializers import add_constant

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_STEP = float(np.finfo(np.float16).tiny)


class QuantizedActivation(NamedTuple):
    """An activation's integers, their scale and their zero point, both scalars."""

    integers: ir.Value
    scale: ir.Value
    zero: ir.Value


class Activations:
    """The rounded activations of one graph.

    ``dtype`` is that of their scales; ``zero`` their zero point, whose dtype is that of the
    integers.
    """

    def __init__(self, graph: ir.Graph, dtype: str, zero: NDArray[Any]) -> None:
        self._graph = graph
        self._dtype = np.dtype(dtype)
        self._zero = zero
        self._quantized: dict[tuple[str, float], QuantizedActivation] = {}
        self._dequantized: dict[str, ir.Value] = {}

    def quantize(self, node: ir.Node, threshold: float) -> QuantizedActivation:
        """The first input of ``node`` in steps of ``threshold`` / 127."""
        value = node.inputs[0]
        assert value is not None
        key = (value.name or "", threshold)
        if key not in self._quantized:
            self._quantized[key] = self._add_quantize(node, value, threshold)
        return self._quantized[key]

    def dequantize(self, node: ir.Node, threshold: float) -> ir.Value:
        """The first input of ``node`` as the integers of ``quantize`` have it."""
        quantized = self.quantize(node, threshold)
        name = quantized.integers.name or ""
        if name not in self._dequantized:
            self._dequantized[name] = add_dequantize(node, list(quantized))
        return self._dequantized[name]

    def _add_quantize(
        self, node: ir.Node, value: ir.Value, threshold: float
    ) -> QuantizedActivation:
        name = self._free_name(value.name or "")
        step = np.array(max(threshold / 127, LEAST_STEP), self._dtype)
        scale = add_constant(self._graph, f"{name}.step", step)
        zero = add_constant(self._graph, f"{value.name}.zero", self._zero)
        quantize = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}.quantize")
        quantize.outputs[0].name = f"{name}.quantized"
        self._graph.insert_before(node, quantize)
        return QuantizedActivation(quantize.outputs[0], scale, zero)

    def _free_name(self, name: str) -> str:
        """Another one for each threshold of the same activation."""
        count = sum(other == name for other, _ in self._quantized)
        return f"{name}.{count}" if count else name


def add_dequantize(before: ir.Node, inputs: list[ir.Value], **attributes: int) -> ir.Value:
    """The floats of ``inputs`` (integers, scale and, if wanted, zero point), computed in front of
    the node ``before``.
    """
    name = inputs[0].name
    node = ir.node("DequantizeLinear", inputs, attributes, name=f"{name}.dequantize")
    node.outputs[0].name = f"{name}.dequantized"
    assert before.graph is not None
    before.graph.insert_before(before, node)
    return node.outputs[0]
