"""ONNX Runtime's dialect: contrib operators that take quantized values as they are.

They are written as ONNX Runtime would fuse them out of Q/DQ, because it fuses only where no other
fusion comes first. Its x86 kernels want unsigned activations, with the zero point in the middle:
the same numbers as signed ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from vpt_edge.calibration.cpu_session import open_cpu_session
from vpt_edge.export.quantization.activations import Activations
from vpt_edge.export.quantization.fusion import fuse_qkv
from vpt_edge.export.quantization.initializers import add_constant, drop_unused
from vpt_edge.export.quantization.rounding import RoundedWeight, int4_weight, int8_weight, pack
from vpt_edge.export.weights import add_initializer
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.names import utf8_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.export.quantization.matmuls import Matmul

    Array = NDArray[np.float32]

DOMAIN = "com.microsoft"
MANY_OUTPUTS = 4096  # from which on it pays that INT4 chooses candidates
CANDIDATES = 64  # that INT4 chooses and INT8 judges
CACHE_INPUTS = 14  # of an attention with an int8 cache: its last two are the scales


class OnnxRuntimeDialect:
    """Rewrites the matmuls of ``model``, which computes in ``dtype``."""

    def __init__(self, model: ir.Model, dtype: str) -> None:
        self._model = model
        self._graph = model.graph
        self._scale_type = ir.DataType.from_numpy(np.dtype(dtype))
        self._activations = Activations(model.graph, dtype, zero=np.array(128, np.uint8))

    def int8(self, matmul: Matmul, threshold: float) -> None:
        """MatMulIntegerToFloat or QGemm."""
        name = matmul.name
        weight, scale = self._store_int8(matmul)
        activation, step, point = self._activations.quantize(matmul.node, threshold)
        zero = add_constant(self._graph, f"{name}.zero", np.zeros(matmul.outputs, np.int8))
        if matmul.node.op_type == "Gemm":
            inputs = [activation, step, point, weight, scale, zero]
            transposed = {"transB": 1 - matmul.axis}
            fused = _contrib_node("QGemm", inputs, transposed, f"{name}.matmul")
        else:
            inputs = [activation, weight, step, scale, point, zero, *self._take_bias(matmul)]
            fused = _contrib_node("MatMulIntegerToFloat", inputs, {}, f"{name}.matmul")
        self._put(matmul, fused)

    def int8_head(self, matmul: Matmul, threshold: float, block: int) -> None:
        """INT8, by way of candidates where the head is large enough."""
        pays = matmul.outputs >= MANY_OUTPUTS and matmul.inputs % block == 0
        if pays and matmul.axis == 0:
            self.int8_candidates(matmul, threshold, block)
        else:
            self.int8(matmul, threshold)

    def int8_candidates(self, matmul: Matmul, threshold: float, block: int) -> None:
        """Of many outputs only the largest count: INT4 chooses CANDIDATES of them, and those are
        what INT8 makes of them.

        It reads half of the bytes, and the int8 rows stay on disk but for the candidates'. For a
        weight (outputs, inputs) and an activation (rows, inputs).
        """
        name = matmul.name
        node = matmul.node
        weight, scale = self._store_int8(matmul)
        activation = self._activations.dequantize(node, threshold)
        coarse = self._int4_node(matmul, block, np.ones(matmul.inputs, np.float32))
        coarse.outputs[0].name = f"{name}.coarse"
        self._graph.insert_before(node, coarse)
        count = np.array([min(CANDIDATES, matmul.outputs)], np.int64)
        count_value = add_constant(self._graph, f"{name}.candidates", count)
        last_axis = add_constant(self._graph, f"{name}.last", np.array([2], np.int64))
        middle_axis = add_constant(self._graph, f"{name}.middle", np.array([1], np.int64))
        add = _NodeAdder(node, name)
        candidates = add("TopK", [coarse.outputs[0], count_value], output=1)  # (rows, candidates)
        rows = add("Gather", [weight, candidates])
        rows = add("Cast", [rows], to=ir.DataType.FLOAT)  # (rows, candidates, inputs)
        terms = add("Mul", [rows, add("Unsqueeze", [activation, middle_axis])])
        exact = add("ReduceSum", [terms, last_axis], keepdims=0)  # so small a MatMul would be fused
        exact = add("Mul", [exact, add("Gather", [scale, candidates])])
        inputs = [coarse.outputs[0], candidates, exact]
        self._put(matmul, ir.node("ScatterElements", inputs, {"axis": 1}, name=name))

    def int4(self, matmul: Matmul, block: int, importance: Array) -> None:
        """MatMulNBits, which rounds activations to 8 bits by itself."""
        self._put(matmul, self._int4_node(matmul, block, importance))

    def int8_cache(self, scales: Mapping[str, Array]) -> None:
        """Keys and values of int8 in the cache that attention shares."""
        for node in self._graph:
            if node.op_type == "GroupQueryAttention":
                self._round_cache(node, scales)

    def finish(self) -> None:
        fuse_qkv(self._model)

    def _store_int8(self, matmul: Matmul) -> tuple[ir.Value, ir.Value]:
        """The integers, as the weight is stored, and a scale for each output."""
        name = matmul.name
        rounded = RoundedWeight(lambda: int8_weight(matmul.read(), matmul.axis))
        sizes = [matmul.inputs, matmul.outputs]
        if matmul.axis == 0:
            sizes.reverse()
        int8 = ir.DataType.INT8
        weight = add_initializer(self._graph, f"{name}.int8", int8, sizes, rounded.take_integers)
        scale_sizes = [matmul.outputs]
        scale_name = f"{name}.scale"
        scale = add_initializer(
            self._graph, scale_name, self._scale_type, scale_sizes, rounded.take_scales
        )
        return weight, scale

    def _int4_node(self, matmul: Matmul, block: int, importance: Array) -> ir.Node:
        name = matmul.name
        blocks = -(-matmul.inputs // block)
        rounded = RoundedWeight(lambda: int4_weight(matmul.read_inputs_first(), block, importance))
        weight = add_initializer(
            self._graph,
            f"{name}.int4",
            ir.DataType.UINT8,
            [matmul.outputs, blocks, block // 2],
            lambda: pack(rounded.take_integers(), block),
        )
        scale = add_initializer(
            self._graph,
            f"{name}.int4.scale",
            self._scale_type,
            [matmul.outputs * blocks],
            lambda: rounded.take_scales().T.reshape(-1),
        )
        attributes = {"K": matmul.inputs, "N": matmul.outputs, "bits": 4, "block_size": block}
        attributes["accuracy_level"] = 4
        inputs: list[ir.Value | None] = [matmul.activation, weight, scale]
        bias = self._take_bias(matmul)
        if bias:
            inputs += [None, None, *bias]  # neither zero points nor an order of groups
        return _contrib_node("MatMulNBits", inputs, attributes, f"{name}.matmul")

    def _round_cache(self, attention: ir.Node, scales: Mapping[str, Array]) -> None:
        pasts = [value for value in attention.inputs[3:5] if value is not None]
        attention.resize_inputs(CACHE_INPUTS)
        for place, past in enumerate(pasts, CACHE_INPUTS - 2):
            part = (past.name or "").removeprefix("past.")
            scale = add_constant(self._graph, f"cache.{part}.scale", scales[part])
            attention.replace_input_with(place, scale)
        for value in (*pasts, *attention.outputs[1:3]):
            value.dtype = ir.DataType.INT8
        attention.attributes["kv_cache_bit_width"] = ir.AttrInt64("kv_cache_bit_width", 8)
        for name in ("k_quant_type", "v_quant_type"):
            attention.attributes[name] = ir.AttrString(name, "PER_CHANNEL")

    def _take_bias(self, matmul: Matmul) -> list[ir.Value]:
        """The bias that is added to the matmul, if it has one; the addition, a pass over the
        outputs, is gone.
        """
        out = matmul.node.outputs[0]
        add = next(iter(out.consumers()), None)
        if add is None or add.op_type != "Add" or len(out.uses()) > 1:
            return []
        (bias,) = (value for value in add.inputs if value is not out)
        if bias is None or bias.name not in self._graph.initializers:
            return []
        if bias.shape != ir.Shape([matmul.outputs]):
            return []
        total = add.outputs[0]
        _take_place(out, total)
        self._graph.remove(add, safe=True)
        return [bias]

    def _put(self, matmul: Matmul, fused: ir.Node) -> None:
        """``fused`` in the place of the matmul's node."""
        self._graph.opset_imports[DOMAIN] = 1
        self._graph.insert_before(matmul.node, fused)
        _take_place(fused.outputs[0], matmul.node.outputs[0])
        self._graph.remove(matmul.node, safe=True)
        drop_unused(self._graph, [matmul.weight])


class _NodeAdder:
    """Adds nodes in front of the node ``before``, whose outputs are named after ``name``."""

    def __init__(self, before: ir.Node, name: str) -> None:
        self._before = before
        self._name = name

    def __call__(
        self, operator: str, inputs: Sequence[ir.Value], output: int = 0, **attributes: int
    ) -> ir.Value:
        node = ir.node(operator, inputs, attributes, num_outputs=output + 1)
        for place, value in enumerate(node.outputs):
            value.name = f"{self._name}.{operator}.{inputs[0].name}.{place}"
        assert self._before.graph is not None
        self._before.graph.insert_before(self._before, node)
        return node.outputs[output]


def _contrib_node(
    operator: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, int], name: str
) -> ir.Node:
    return ir.node(operator, inputs, attributes, domain=DOMAIN, name=name)


def _take_place(new: ir.Value, old: ir.Value) -> None:
    """Give ``new`` the name, the type and the uses of ``old``."""
    new.type = old.type
    new.shape = old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    name = old.name
    old.name = f"{name}.float"
    new.name = name


def check_fused(path: Path) -> None:
    """Raise ExportError where ONNX Runtime would still compute a quantized matmul in float."""
    import onnxruntime

    unfused = _float_matmuls(_optimize(path))
    if unfused:
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} does not fuse {len(unfused)} quantized "
            f"matmuls of {path.name}, which would make them slower than float: "
            f"{', '.join(unfused[:5])}",
            "use the version in constraints.txt",
        )


def _optimize(path: Path) -> Any:
    """The graph (an onnx.GraphProto) at ``path`` as ONNX Runtime runs it."""
    import onnx

    with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
        optimized = Path(folder) / "optimized.onnx"
        entries = {"session.optimized_model_external_initializers_file_name": "optimized.data"}
        with utf8_name(optimized) as name:
            open_cpu_session(path, entries, optimized_model_filepath=name)
        return onnx.load(str(optimized), load_external_data=False).graph


def _float_matmuls(graph: Any) -> list[str]:
    """The names of the matmuls that take a dequantized value."""
    dequantized = set[str]()
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            dequantized.update(node.output)
    names = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and dequantized & set(node.input):
            names.append(node.name)
    return names
