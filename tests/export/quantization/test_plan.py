"""Weights rounded to INT8 and INT4, and how they stand in the graphs of each target."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpt_edge.export.quantization import rounding
from vpt_edge.export.quantization.matmuls import check_fused, products
from vpt_edge.export.quantization.plan import Quantizer
from vpt_edge.export.quantization.rounding import int4_weight, int8_weight

INPUTS, OUTPUTS = 128, 24


def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((INPUTS, OUTPUTS)).astype(np.float32)


def graph(dtype: str = "float32", gemm: bool = False, matrix: np.ndarray | None = None) -> ir.Model:
    """One product: x (rows, 128) times a stored weight."""
    matrix = (weight() if matrix is None else matrix).astype(dtype)
    stored = onnx.numpy_helper.from_array(
        matrix.T.copy() if gemm else matrix, "w" if gemm else "w.transposed"
    )
    attributes: dict[str, Any] = {"transB": 1} if gemm else {}
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = onnx.helper.make_node(
        "Gemm" if gemm else "MatMul", ["x", stored.name], ["y"], **attributes
    )
    made = onnx.helper.make_graph(
        [node],
        "product",
        [onnx.helper.make_tensor_value_info("x", kind, ["rows", INPUTS])],
        [onnx.helper.make_tensor_value_info("y", kind, ["rows", OUTPUTS])],
        [stored],
    )
    return ir.from_proto(
        onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9)
    )


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def test_int8_is_symmetric_a_channel() -> None:
    integers, scale = int8_weight(weight(), axis=1)
    assert integers.dtype == np.int8
    assert np.abs(integers * scale - weight()).max() <= 0.5 * scale.max() + 1e-6
    turned, same = int8_weight(weight().T, axis=0)
    np.testing.assert_array_equal(turned.T, integers)
    np.testing.assert_array_equal(same, scale)


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([1, 7, 1 << 18]),
    st.integers(0, 2**32 - 1),
)
def test_int8_uses_its_range_as_far_as_pairs_allow(
    inputs: int, outputs: int, numbers: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((inputs, outputs)) * np.exp(random.normal(0, 2, (inputs, 1)))
    with mock.patch.object(rounding, "NUMBERS", numbers):
        integers, _ = int8_weight(matrix.astype(np.float32), axis=1)
    padded = np.pad(integers.astype(int), ((0, inputs % 2), (0, 0)))
    sums = np.abs(padded.reshape(-1, 2, outputs).sum(1)).max(0)
    assert np.abs(integers.astype(int)).max() <= 127
    assert sums.max() <= 128
    assert (np.maximum(sums, np.abs(integers.astype(int)).max(0)) >= 126).all()


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize(("size", "fused"), [(OUTPUTS, True), (1, False)])
def test_a_bias_is_part_of_its_quantized_product(size: int, fused: bool, kind: str) -> None:
    model = graph()
    bias, y = (
        np.random.default_rng(1).standard_normal(size).astype(np.float32),
        model.graph.outputs[0],
    )
    plain = run(model, x := np.random.default_rng(2).uniform(-1, 1, (5, INPUTS)).astype(np.float32))
    stored = ir.Value(name="bias", shape=ir.Shape([size]), const_value=ir.tensor(bias))
    model.graph.register_initializer(stored)
    add = ir.node("Add", [stored, y])
    model.graph.append(add)
    model.graph.outputs[0], y.name, add.outputs[0].name = add.outputs[0], "product", "y"
    add.outputs[0].type, add.outputs[0].shape = y.type, y.shape
    quantizer, (product,) = Quantizer(model, "onnxruntime", "float32"), products(model)
    quantizer.int8(product, 1.0) if kind == "int8" else quantizer.int4(
        product, 32, np.ones(INPUTS, np.float32)
    )
    assert ("Add" in {node.op_type for node in model.graph}) != fused
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert (
        np.abs(run(model, x) - plain - bias).max()
        < (0.05 if kind == "int8" else 0.3) * np.abs(plain).max()
    )


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 300])
def test_a_product_of_extremes_is_exact(rows: int, gemm: bool) -> None:
    """Where an AVX2 processor without VNNI would clamp the sum of two products."""
    matrix = np.where(weight() > 0, np.float32(1), np.float32(-1)) * (1 - 1e-3 * np.abs(weight()))
    model = graph(gemm=gemm, matrix=matrix)
    Quantizer(model, "onnxruntime", "float32").int8(products(model)[0], threshold=1.0)
    x = np.where(
        np.random.default_rng(1).random((rows, INPUTS)) < 0.9, np.float32(1), np.float32(-1)
    )
    integers, scale = int8_weight(matrix, axis=1)
    expected = (np.round(x * 127).astype(int) @ integers.astype(int)) * (scale / np.float32(127))
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)


def test_a_channel_of_zeros_has_a_scale() -> None:
    integers, scale = int8_weight(np.zeros((4, 2), np.float32), axis=1)
    assert not integers.any()
    assert (scale > 0).all()


@pytest.mark.parametrize("block", [32, 64, 128])
def test_int4_is_at_least_as_good_as_rounding_to_the_extreme(block: int) -> None:
    importance = np.ones(INPUTS, np.float32)
    integers, scales = int4_weight(weight(), block, importance)
    assert integers.min() >= -8
    assert integers.max() <= 7
    rounded = integers * np.repeat(scales, block, axis=0)
    blocks = weight().reshape(-1, block, OUTPUTS)
    plain = np.abs(blocks).max(1, keepdims=True) / 7
    naive = np.clip(np.round(blocks / plain), -8, 7) * plain
    assert np.square(rounded - weight()).sum() < np.square(naive - blocks).sum()


def test_int4_spends_its_error_where_little_flows() -> None:
    importance = np.ones(INPUTS, np.float32)
    importance[::2] = 1000
    loud, even = (
        int4_weight(weight(), 64, share) for share in (importance, np.ones(INPUTS, np.float32))
    )
    errors = [
        np.square(q * np.repeat(s, 64, axis=0) - weight())[::2].sum() for q, s in (loud, even)
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_int8_computes_what_it_says(target: str, gemm: bool) -> None:
    model = graph(gemm=gemm)
    Quantizer(model, target, "float32").int8(products(model)[0], threshold=3.0)
    x = np.random.default_rng(1).uniform(-3, 3, (5, INPUTS)).astype(np.float32)
    integers, scale = int8_weight(weight(), axis=1)
    step = np.float32(3.0 / 127)
    expected = (np.clip(np.round(x / step), -128, 127) * step) @ (integers * scale)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-3)


def test_int4_computes_what_it_says() -> None:
    model = graph()
    Quantizer(model, "onnxruntime", "float32").int4(
        products(model)[0], 32, np.ones(INPUTS, np.float32)
    )
    x = np.random.default_rng(1).standard_normal((5, INPUTS)).astype(np.float32)
    integers, scales = int4_weight(weight(), 32, np.ones(INPUTS, np.float32))
    expected = x @ (integers * np.repeat(scales, 32, axis=0))
    # accuracy_level 4 rounds the activations to 8 bits, block by block
    np.testing.assert_allclose(run(model, x), expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("gemm", [False, True])
def test_tensorrt_gets_signed_symmetric_numbers_and_scales_of_its_own_type(gemm: bool) -> None:
    model = graph("float16", gemm)
    Quantizer(model, "tensorrt", "float16").int8(products(model)[0], threshold=3.0)
    stored = model.graph.initializers
    (quantize,) = (node for node in model.graph if node.op_type == "QuantizeLinear")
    scale, zero = quantize.inputs[1], quantize.inputs[2]
    assert scale is not None and zero is not None
    assert (scale.dtype, zero.dtype) == (ir.DataType.FLOAT16, ir.DataType.INT8)
    assert not stored[zero.name or ""].const_value.numpy().any()  # type: ignore[union-attr]
    assert stored["w.scale"].dtype == ir.DataType.FLOAT16
    assert stored["w.int8"].dtype == ir.DataType.INT8
    assert {node.domain for node in model.graph} == {""}
    assert model.graph.opset_imports == {"": 19}


@pytest.mark.parametrize("outputs", [20, 1000])
def test_int8_decides_between_the_largest_that_int4_names(outputs: int, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    random = np.random.default_rng(3)
    matrix = random.standard_normal((INPUTS, outputs)).astype(np.float32)
    x = random.uniform(-1, 1, (1, INPUTS)).astype(np.float32)
    models = [graph(gemm=True, matrix=matrix) for _ in range(3)]
    for model in models:
        model.graph.inputs[0].shape = ir.Shape([1, INPUTS])
        model.graph.outputs[0].shape = ir.Shape([1, outputs])
    fine, rough, both = (Quantizer(model, "onnxruntime", "float32") for model in models)
    fine.int8(products(models[0])[0], 1.0)
    rough.int4(products(models[1])[0], 64, np.ones(INPUTS, np.float32))
    both.shortlist(products(models[2])[0], 64, 1.0)
    exact, coarse, found = (run(model, x)[0] for model in models)
    named = np.argsort(-coarse)[:64]
    np.testing.assert_allclose(found[named], exact[named], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.delete(found, named), np.delete(coarse, named))
    assert np.abs(coarse - exact).max() > 0.1
    assert found.argmax() == exact.argmax()
    ir.save(models[2], tmp_path / "folder" / "graph.onnx")
    check_fused(tmp_path / "folder" / "graph.onnx")


def test_int4_for_tensorrt_is_a_block_dequantize_of_opset_21() -> None:
    model = graph("float16")
    Quantizer(model, "tensorrt", "float16").int4(
        products(model)[0], 64, np.ones(INPUTS, np.float32)
    )
    (node,) = (node for node in model.graph if node.op_type == "DequantizeLinear")
    assert node.attributes["block_size"].as_int() == 64
    assert model.graph.initializers["w.int4"].dtype == ir.DataType.INT4
    assert model.graph.opset_imports[""] == 21
    onnx.checker.check_model(ir.to_proto(model))


def test_products_of_one_activation_share_its_rounding() -> None:
    model = graph()
    first = products(model)[0].node
    value = ir.Value(
        name="v.transposed", const_value=ir.tensor(weight()), shape=ir.Shape([INPUTS, OUTPUTS])
    )
    model.graph.register_initializer(value)
    second = ir.node("MatMul", [first.inputs[0], value])
    model.graph.append(second)
    quantizer = Quantizer(model, "onnxruntime", "float32")
    for product in products(model):
        quantizer.int8(product, threshold=3.0)
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph) == 1
