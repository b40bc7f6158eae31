"""One product for queries, keys and values, as ONNX Runtime's attention takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx_ir as ir

OUTPUT_AXIS = {"MatMulNBits": 0, "MatMulIntegerToFloat": -1}  # of each stored input


def fuse_qkv(model: ir.Model) -> None:
    """Put the quantized q_proj, k_proj and v_proj of a layer into one where all three multiply the
    same activation.

    A step then starts one product instead of three and rounds what goes into it once; no weight is
    rounded anew. The attention must rotate by itself: the keys come out of the same tensor as the
    values, which are not rotated."""
    for attention in [node for node in model.graph if "do_rotary" in node.attributes]:
        makers = [value.producer() for value in attention.inputs[:3] if value is not None]
        products = [node for node in makers if node is not None and node.op_type in OUTPUT_AXIS]
        if len(products) == 3 and len({(node.op_type, len(node.inputs)) for node in products}) == 1:
            _fuse(model.graph, attention, products)


def _fuse(graph: ir.Graph, attention: ir.Node, products: Sequence[ir.Node]) -> None:
    first, inputs = products[0], list[ir.Value | None]()
    for values in zip(*(node.inputs for node in products), strict=True):
        stored = [
            value for value in values if value is not None and value.name in graph.initializers
        ]
        if len(set(values)) == 1:
            inputs.append(values[0])
        elif len(stored) == len(values):
            inputs.append(_stacked(graph, stored, OUTPUT_AXIS[first.op_type]))
        else:  # activations that are clipped differently
            return
    outputs = [node.outputs[0] for node in products]
    width = sum(int(cast("int", cast("ir.Shape", value.shape)[-1])) for value in outputs)
    attributes = {name: attribute.value for name, attribute in first.attributes.items()}
    if "N" in attributes:
        attributes["N"] = width
    fused = ir.node(
        first.op_type, inputs, attributes, domain=first.domain, name=_renamed(first.name)
    )
    fused.outputs[0].name, fused.outputs[0].type = f"{outputs[0].name}.qkv", outputs[0].type
    fused.outputs[0].shape = ir.Shape([*cast("ir.Shape", outputs[0].shape)[:-1], width])
    graph.insert_before(attention, fused)
    for place, value in enumerate((fused.outputs[0], None, None)):
        attention.replace_input_with(place, value)
    graph.remove(products, safe=True)
    for value in [value for value in graph.initializers.values() if not value.uses()]:
        del graph.initializers[cast("str", value.name)]


def _renamed(name: str | None) -> str:
    return (name or "").replace("q_proj", "qkv_proj")


def _stacked(graph: ir.Graph, values: Sequence[ir.Value], axis: int) -> ir.Value:
    """A stored tensor of ``values`` one behind the other, which is made when it is written."""
    tensors = [cast("ir.TensorProtocol", value.const_value) for value in values]
    sizes = list(tensors[0].shape.numpy())
    sizes[axis] = sum(tensor.shape.numpy()[axis] for tensor in tensors)
    name, dtype, shape = _renamed(values[0].name), tensors[0].dtype, ir.Shape(sizes)
    stacked = ir.Value(name=name, shape=shape, type=ir.TensorType(dtype))
    stacked.const_value = ir.LazyTensor(
        lambda: ir.tensor(np.concatenate([tensor.numpy() for tensor in tensors], axis)),
        dtype=dtype,
        shape=shape,
        name=name,
    )
    graph.register_initializer(stacked)
    return stacked
