"""The matmuls of a graph that have a stored weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from vpt_edge.calibration.recorder import MATMULS, weight_name

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


@dataclass(frozen=True)
class Matmul:
    """A MatMul or Gemm with a stored weight; ``axis`` is that of the output channels in the weight
    as stored: 1 for (inputs, outputs), 0 for (outputs, inputs).
    """

    node: ir.Node
    weight: ir.Value
    axis: int

    @property
    def name(self) -> str:
        """The weight's name in the module, whatever way it is stored."""
        return weight_name(self.weight.name or "")

    @property
    def activation(self) -> ir.Value:
        """What is multiplied with the weight: (..., inputs)."""
        return cast("ir.Value", self.node.inputs[0])

    @property
    def inputs(self) -> int:
        return self._sizes[1 - self.axis]

    @property
    def outputs(self) -> int:
        return self._sizes[self.axis]

    def read(self) -> Array:
        """The weight as stored, float32."""
        assert self.weight.const_value is not None
        return self.weight.const_value.numpy().astype(np.float32, copy=False)

    def read_inputs_first(self) -> Array:
        """The weight as (inputs, outputs), float32."""
        weight = self.read()
        return weight if self.axis == 1 else weight.T

    @property
    def _sizes(self) -> tuple[int, int]:
        rows, columns = cast("ir.Shape", self.weight.shape)
        return int(cast("int", rows)), int(cast("int", columns))


def find_matmuls(model: ir.Model) -> list[Matmul]:
    """Every matmul of ``model`` whose right side is a stored weight, in the graph's order."""
    matmuls = []
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in MATMULS else None
        if weight is not None and weight.name in model.graph.initializers:
            matmuls.append(Matmul(node, weight, axis=0 if _is_transposed(node) else 1))
    return matmuls


def _is_transposed(node: ir.Node) -> bool:
    return "transB" in node.attributes and node.attributes["transB"].as_int() == 1
