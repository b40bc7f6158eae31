"""The matrix products of a graph, and whether ONNX Runtime computes them as they are written."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

TURNED = ".transposed"


@dataclass(frozen=True)
class Product:
    """A matrix product with a stored weight; ``axis`` is that of the output channels in the weight
    as stored."""

    node: ir.Node
    weight: ir.Value
    axis: int

    @property
    def name(self) -> str:
        return (self.weight.name or "").removesuffix(TURNED)

    def read(self) -> Array:
        """The weight as stored, float32."""
        assert self.weight.const_value is not None
        return self.weight.const_value.numpy().astype(np.float32, copy=False)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of inputs and outputs."""
        rows, columns = (int(size) for size in self.weight.shape)  # type: ignore[union-attr, arg-type]
        return (rows, columns) if self.axis == 1 else (columns, rows)


def products(model: ir.Model) -> list[Product]:
    """Every MatMul and Gemm of ``model`` whose right side is a stored weight."""
    found = []
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in ("MatMul", "Gemm") else None
        if weight is not None and weight.name in model.graph.initializers:
            turned = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
            found.append(Product(node, weight, 0 if turned else 1))
    return found


def check_fused(path: Path) -> None:
    """Raise ExportError where ONNX Runtime would still compute a quantized product in float."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(optimized)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "optimized.data"
        )
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(str(optimized), load_external_data=False).graph
    dequantized = {
        output
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        for output in node.output
    }
    loose = [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm") and dequantized & set(node.input)
    ]
    if loose:
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} does not fuse {len(loose)} quantized products of {path.name}, "
            f"which would make them slower than float: {', '.join(loose[:5])}; use the version in constraints.txt"
        )
