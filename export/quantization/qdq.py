"""The Q/DQ dialect, which TensorRT reads: integers with their scales around plain matmuls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx_ir as ir

from vpt_edge.export.quantization.activations import Activations, add_dequantize
from vpt_edge.export.quantization.initializers import drop_unused
from vpt_edge.export.quantization.rounding import RoundedWeight, int4_weight, int8_weight
from vpt_edge.export.weights import add_initializer
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.export.quantization.matmuls import Matmul

    Array = NDArray[np.float32]

INT4_OPSET = 21  # the first with INT4 and blocks


class QdqDialect:
    """Signed Q/DQ around the activation, DQ behind the weight.

    ``dtype`` is what the graph computes in, and its scales are of: float32 or float16.
    """

    def __init__(self, model: ir.Model, dtype: str) -> None:
        self._model = model
        self._scale_type = ir.DataType.from_numpy(np.dtype(dtype))
        self._activations = Activations(model.graph, dtype, zero=np.array(0, np.int8))

    def int8(self, matmul: Matmul, threshold: float) -> None:
        graph = self._model.graph
        name = matmul.name
        rounded = RoundedWeight(lambda: int8_weight(matmul.read(), matmul.axis))
        shape = matmul.weight.shape
        assert shape is not None
        weight = add_initializer(
            graph, f"{name}.int8", ir.DataType.INT8, shape.numpy(), rounded.take_integers
        )
        scale = add_initializer(
            graph, f"{name}.scale", self._scale_type, [matmul.outputs], rounded.take_scales
        )
        activation = self._activations.dequantize(matmul.node, threshold)
        dequantized = add_dequantize(matmul.node, [weight, scale], axis=matmul.axis)
        self._replace(matmul, activation, dequantized)

    def int8_head(self, matmul: Matmul, threshold: float, block: int) -> None:
        self.int8(matmul, threshold)

    def int4(self, matmul: Matmul, block: int, importance: Array) -> None:
        graph = self._model.graph
        name = matmul.name
        rounded = RoundedWeight(lambda: int4_weight(matmul.read_inputs_first(), block, importance))
        self._model.graph.opset_imports[""] = INT4_OPSET
        weight = add_initializer(
            graph,
            f"{name}.int4",
            ir.DataType.INT4,
            [matmul.inputs, matmul.outputs],
            lambda: rounded.take_integers().astype(ml_dtypes.int4),
        )
        blocks = -(-matmul.inputs // block)
        scale = add_initializer(
            graph, f"{name}.scale", self._scale_type, [blocks, matmul.outputs], rounded.take_scales
        )
        dequantized = add_dequantize(matmul.node, [weight, scale], axis=0, block_size=block)
        self._replace(matmul, matmul.activation, dequantized)

    def int8_cache(self, scales: Mapping[str, Array]) -> None:
        raise ExportError("graphs for tensorrt keep keys and values in float", "--kv-cache float")

    def finish(self) -> None:
        """Nothing: TensorRT fuses what it likes by itself."""

    def _replace(self, matmul: Matmul, activation: ir.Value, weight: ir.Value) -> None:
        matmul.node.replace_input_with(0, activation)
        matmul.node.replace_input_with(1, weight)
        drop_unused(self._model.graph, [matmul.weight])
