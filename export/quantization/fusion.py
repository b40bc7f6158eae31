"""One matmul for queries, keys and values, as ONNX Runtime's attention takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir

from vpt_edge.export.quantization.initializers import add_constant, drop_unused
from vpt_edge.export.weights import add_initializer

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTPUT_AXIS = {"MatMulNBits": 0, "MatMulIntegerToFloat": -1}  # of each stored input
MOST_NODES = 8  # of a norm between a matmul and the attention


def fuse_qkv(model: ir.Model) -> None:
    """Put the quantized q_proj, k_proj and v_proj of a layer into one where all three multiply the
    same activation.

    A step then starts one matmul instead of three and rounds what goes into it once; no weight is
    rounded anew. The attention must rotate by itself: the keys come out of the same tensor as the
    values, which are not rotated. Where a norm stands between, the matmul's result is split.
    """
    for attention in list(model.graph):
        if "do_rotary" in attention.attributes:
            matmuls = _quantized_producers(attention.inputs[:3])
            if len(matmuls) == 3 and _are_alike(matmuls):
                _fuse(model.graph, attention, matmuls)


def _quantized_producers(values: Sequence[ir.Value | None]) -> list[ir.Node]:
    """The quantized matmuls that ``values`` come from, each by way of no more than a norm."""
    nodes = []
    for value in values:
        node = value.producer() if value is not None else None
        for _ in range(MOST_NODES):
            if node is None or node.op_type in OUTPUT_AXIS:
                break
            first = node.inputs[0] if node.inputs else None
            node = first.producer() if first is not None else None
        if node is not None and node.op_type in OUTPUT_AXIS:
            nodes.append(node)
    return nodes


def _are_alike(nodes: Sequence[ir.Node]) -> bool:
    return len({(node.op_type, len(node.inputs)) for node in nodes}) == 1


def _fuse(graph: ir.Graph, attention: ir.Node, matmuls: Sequence[ir.Node]) -> None:
    inputs = _fused_inputs(graph, matmuls)
    if inputs is None:
        return
    first = matmuls[0]
    outputs = [node.outputs[0] for node in matmuls]
    width = sum(_width(value) for value in outputs)
    attributes = {name: attribute.value for name, attribute in first.attributes.items()}
    if "N" in attributes:
        attributes["N"] = width
    name = _fused_name(first.name)
    fused = ir.node(first.op_type, inputs, attributes, domain=first.domain, name=name)
    output = fused.outputs[0]
    output.name = f"{outputs[0].name}.qkv"
    output.type = outputs[0].type
    output.shape = ir.Shape([*cast("ir.Shape", outputs[0].shape)[:-1], width])
    graph.insert_before(first, fused)
    if list(attention.inputs[:3]) == outputs:
        for place, value in enumerate((output, None, None)):
            attention.replace_input_with(place, value)
    else:
        _split(graph, fused, outputs)
    graph.remove(matmuls, safe=True)
    drop_unused(graph, graph.initializers.values())


def _split(graph: ir.Graph, fused: ir.Node, outputs: Sequence[ir.Value]) -> None:
    """Let what ``fused`` computes be parted into what ``outputs`` were."""
    widths = np.array([_width(value) for value in outputs], np.int64)
    sizes = add_constant(graph, f"{fused.name}.widths", widths)
    split = ir.node("Split", [fused.outputs[0], sizes], {"axis": -1}, num_outputs=len(outputs))
    graph.insert_after(fused, split)
    for part, value in zip(split.outputs, outputs, strict=True):
        part.name = f"{value.name}.part"
        part.type = value.type
        part.shape = value.shape
        value.replace_all_uses_with(part)


def _fused_inputs(graph: ir.Graph, matmuls: Sequence[ir.Node]) -> list[ir.Value | None] | None:
    """The inputs of the fused matmul; nothing where activations are clipped differently."""
    groups = list(zip(*(node.inputs for node in matmuls), strict=True))
    if not all(_is_shared(values) or _are_stored(graph, values) for values in groups):
        return None
    axis = OUTPUT_AXIS[matmuls[0].op_type]
    inputs = list[ir.Value | None]()
    for values in groups:
        if _is_shared(values):
            inputs.append(values[0])
        else:
            inputs.append(_stack(graph, [value for value in values if value], axis))
    return inputs


def _is_shared(values: Sequence[ir.Value | None]) -> bool:
    return len(set(values)) == 1


def _are_stored(graph: ir.Graph, values: Sequence[ir.Value | None]) -> bool:
    return all(value is not None and value.name in graph.initializers for value in values)


def _width(value: ir.Value) -> int:
    return int(cast("int", cast("ir.Shape", value.shape)[-1]))


def _fused_name(name: str | None) -> str:
    return (name or "").replace("q_proj", "qkv_proj")


def _stack(graph: ir.Graph, values: Sequence[ir.Value], axis: int) -> ir.Value:
    """A stored tensor of ``values`` one behind the other."""
    tensors = [cast("ir.TensorProtocol", value.const_value) for value in values]
    sizes = list(tensors[0].shape.numpy())
    sizes[axis] = sum(tensor.shape.numpy()[axis] for tensor in tensors)

    def concatenate() -> NDArray[Any]:
        return np.concatenate([tensor.numpy() for tensor in tensors], axis)

    return add_initializer(graph, _fused_name(values[0].name), tensors[0].dtype, sizes, concatenate)
