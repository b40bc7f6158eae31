"""Queries, keys and values from one matmul: the same numbers, or the layer stays as it is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from vpt_edge.export.quantization.fusion import fuse_qkv
from vpt_edge.export.quantization.initializers import add_constant
from vpt_edge.export.quantization.matmuls import find_matmuls
from vpt_edge.export.quantization.onnxruntime import OnnxRuntimeDialect

HEADS, KV_HEADS, HEAD_DIM, CAPACITY, PAST, NEW = 4, 2, 32, 16, 6, 3
HIDDEN = HEADS * HEAD_DIM
CACHE = (1, KV_HEADS, CAPACITY, HEAD_DIM)
WIDTHS = {"q": HIDDEN, "k": KV_HEADS * HEAD_DIM, "v": KV_HEADS * HEAD_DIM}


def layer() -> ir.Model:
    """Three matmuls of x (1, new, hidden) with their biases, and the attention that takes them."""
    random, nodes, stored = np.random.default_rng(0), list[Any](), list[Any]()
    for part, width in WIDTHS.items():
        for name, shape in (
            (f"{part}_proj.weight.transposed", (HIDDEN, width)),
            (f"{part}_proj.bias", (width,)),
        ):
            stored.append(
                onnx.numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
            )
        nodes.append(
            helper.make_node("MatMul", ["x", f"{part}_proj.weight.transposed"], [f"{part}.product"])
        )
        nodes.append(helper.make_node("Add", [f"{part}.product", f"{part}_proj.bias"], [part]))
    inputs = [
        "q",
        "k",
        "v",
        "past.0.key",
        "past.0.value",
        "seqlens_k",
        "total_sequence_length",
        "cos",
        "sin",
    ]
    outputs = ["out", "present.0.key", "present.0.value"]
    how: dict[str, Any] = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "do_rotary": 1}
    nodes.append(
        helper.make_node("GroupQueryAttention", inputs, outputs, domain="com.microsoft", **how)
    )
    shapes: dict[str, Any] = {"x": (1, "new", HIDDEN), "out": (1, "new", HIDDEN), "seqlens_k": (1,)}
    shapes |= {
        "total_sequence_length": (),
        "cos": (CAPACITY, HEAD_DIM // 2),
        "sin": (CAPACITY, HEAD_DIM // 2),
    }
    shapes |= {part: (1, "new", width) for part, width in WIDTHS.items()}

    def value(name: str) -> onnx.ValueInfoProto:
        kind = TensorProto.INT32 if name in inputs[5:7] else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, shapes.get(name, CACHE))

    given = [value(name) for name in ["x", *inputs[3:]]]
    graph = helper.make_graph(nodes, "layer", given, [value(name) for name in outputs], stored)
    graph.value_info.extend(value(part) for part in WIDTHS)
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def quantized(
    kind: str, fused: bool, thresholds: tuple[float, float, float] = (3.0, 3.0, 3.0)
) -> ir.Model:
    model = layer()
    dialect = OnnxRuntimeDialect(model, "float32")
    for matmul, threshold in zip(find_matmuls(model), thresholds, strict=True):
        if kind == "int8":
            dialect.int8(matmul, threshold)
        elif kind == "int4" or matmul.name.startswith("q"):
            dialect.int4(matmul, 32, np.ones(HIDDEN, np.float32))
        elif kind == "mixed":
            dialect.int8(matmul, threshold)
    if fused:
        fuse_qkv(model)
    return model


def run(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(1)
    angles = random.normal(size=(CAPACITY, HEAD_DIM // 2)).astype(np.float32)
    inputs = {
        "x": random.standard_normal((1, NEW, HIDDEN)).astype(np.float32),
        **{
            f"past.0.{part}": random.standard_normal(CACHE).astype(np.float32)
            for part in ("key", "value")
        },
        "seqlens_k": np.array([PAST + NEW - 1], np.int32),
        "total_sequence_length": np.array(PAST + NEW, np.int32),
        "cos": np.cos(angles),
        "sin": np.sin(angles),
    }
    out, *cache = session.run(None, inputs)
    return [np.asarray(out), *(np.asarray(part)[:, :, : PAST + NEW] for part in cache)]


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_one_matmul_gives_the_same_numbers(kind: str) -> None:
    fused = quantized(kind, fused=True)
    operators = [node.op_type for node in fused.graph]
    assert len(operators) == (3 if kind == "int8" else 2), operators  # int8 rounds what goes in
    for got, expected in zip(run(fused), run(quantized(kind, fused=False)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def normed(model: ir.Model) -> ir.Model:
    """``model`` with a norm of each head behind queries and keys, as Qwen3 has it."""
    attention = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    for place, part in enumerate("qk"):
        whole = attention.inputs[place]
        assert whole is not None
        heads = constant(model, f"{part}.heads", np.array([0, 0, -1, HEAD_DIM]))
        flat = constant(model, f"{part}.flat", np.array([0, 0, -1]))
        last = constant(model, f"{part}.last", np.array([-1]))
        scale = np.linspace(0.5, 2, HEAD_DIM, dtype=np.float32)
        weight = constant(model, f"{part}_norm.weight", scale)
        add = partial(add_node, model, attention)
        x = add("Reshape", [whole, heads])
        squares = add("ReduceMean", [add("Mul", [x, x]), last], keepdims=1)
        turned = add("Mul", [add("Div", [x, add("Sqrt", [squares])]), weight])
        attention.replace_input_with(place, add("Reshape", [turned, flat]))
    return model


def constant(model: ir.Model, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    return add_constant(model.graph, name, array)


def add_node(
    model: ir.Model, before: ir.Node, operator: str, inputs: list[ir.Value], **attributes: int
) -> ir.Value:
    node = ir.node(operator, inputs, attributes)
    model.graph.insert_before(before, node)
    node.outputs[0].name = f"{operator}.{id(node)}"
    return node.outputs[0]


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_one_matmul_is_split_where_a_norm_stands_between(kind: str) -> None:
    apart = normed(quantized(kind, fused=False))
    fused = normed(quantized(kind, fused=False))
    fuse_qkv(fused)
    operators = [node.op_type for node in fused.graph]
    assert operators.count("Split") == 1
    assert sum(name.startswith("MatMul") for name in operators) == 1
    attention = next(node for node in fused.graph if node.op_type == "GroupQueryAttention")
    assert None not in attention.inputs[:3]
    for got, expected in zip(run(fused), run(apart), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_matmuls_behind_more_than_a_norm_stay_apart() -> None:
    model = normed(quantized("int4", fused=False))
    attention = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    value = attention.inputs[0]
    assert value is not None
    for _ in range(8):
        value = add_node(model, attention, "Neg", [value])
    attention.replace_input_with(0, value)
    before = [node.op_type for node in model.graph]
    fuse_qkv(model)
    assert [node.op_type for node in model.graph] == before


def stored_bytes(value: ir.Value) -> int:
    assert value.const_value is not None
    return value.const_value.nbytes


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_nothing_is_stored_twice(kind: str) -> None:
    parts, fused = (
        quantized(kind, fused=is_fused).graph.initializers for is_fused in (False, True)
    )
    assert {name for name in fused if "_proj" in name} == {
        name.replace("q_proj", "qkv_proj") for name in parts if "q_proj" in name
    }
    sizes = [sum(map(stored_bytes, part.values())) for part in (parts, fused)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("kind", "thresholds"), [("mixed", (3.0, 3.0, 3.0)), ("int8", (3.0, 3.0, 2.0))]
)
def test_matmuls_that_differ_stay_apart(kind: str, thresholds: tuple[float, float, float]) -> None:
    before, after = (quantized(kind, fused, thresholds) for fused in (False, True))
    assert [node.op_type for node in before.graph] == [node.op_type for node in after.graph]
    assert set(before.graph.initializers) == set(after.graph.initializers)


def test_queries_that_are_rotated_outside_stay_apart() -> None:
    model = quantized("int4", fused=False)
    for node in model.graph:
        node.attributes.pop("do_rotary", None)
    before = [node.op_type for node in model.graph]
    fuse_qkv(model)
    assert [node.op_type for node in model.graph] == before
