"""Quantized matmuls in the graphs of each target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from golden import needs_ort_131

from vpt_edge.export.quantization.matmuls import find_matmuls
from vpt_edge.export.quantization.onnxruntime import OnnxRuntimeDialect, check_fused
from vpt_edge.export.quantization.plan import DIALECTS
from vpt_edge.export.quantization.qdq import QdqDialect
from vpt_edge.export.quantization.rounding import int4_weight, int8_weight

if TYPE_CHECKING:
    from pathlib import Path

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
    dialect = OnnxRuntimeDialect(model, "float32")
    (matmul,) = find_matmuls(model)
    if kind == "int8":
        dialect.int8(matmul, 1.0)
    else:
        dialect.int4(matmul, 32, np.ones(INPUTS, np.float32))
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
    OnnxRuntimeDialect(model, "float32").int8(find_matmuls(model)[0], threshold=1.0)
    x = np.where(
        np.random.default_rng(1).random((rows, INPUTS)) < 0.9, np.float32(1), np.float32(-1)
    )
    integers, scale = int8_weight(matrix, axis=1)
    expected = (np.round(x * 127).astype(int) @ integers.astype(int)) * (scale / np.float32(127))
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "gemm"),
    [
        ("onnxruntime", False),
        ("onnxruntime", True),
        ("tensorrt", False),
        pytest.param("tensorrt", True, marks=needs_ort_131),
    ],
)
def test_int8_computes_what_it_says(target: str, gemm: bool) -> None:
    model = graph(gemm=gemm)
    DIALECTS[target](model, "float32").int8(find_matmuls(model)[0], threshold=3.0)
    x = np.random.default_rng(1).uniform(-3, 3, (5, INPUTS)).astype(np.float32)
    integers, scale = int8_weight(weight(), axis=1)
    step = np.float32(3.0 / 127)
    expected = (np.clip(np.round(x / step), -128, 127) * step) @ (integers * scale)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-3)


def test_int4_computes_what_it_says() -> None:
    model = graph()
    OnnxRuntimeDialect(model, "float32").int4(
        find_matmuls(model)[0], 32, np.ones(INPUTS, np.float32)
    )
    x = np.random.default_rng(1).standard_normal((5, INPUTS)).astype(np.float32)
    integers, scales = int4_weight(weight(), 32, np.ones(INPUTS, np.float32))
    expected = x @ (integers * np.repeat(scales, 32, axis=0))
    # accuracy_level 4 rounds the activations to 8 bits, block by block
    np.testing.assert_allclose(run(model, x), expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("gemm", [False, True])
def test_tensorrt_gets_signed_symmetric_numbers_and_scales_of_its_own_type(gemm: bool) -> None:
    model = graph("float16", gemm)
    QdqDialect(model, "float16").int8(find_matmuls(model)[0], threshold=3.0)
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
def test_int8_decides_between_the_candidates_that_int4_chooses(
    outputs: int, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    random = np.random.default_rng(3)
    matrix = random.standard_normal((INPUTS, outputs)).astype(np.float32)
    x = random.uniform(-1, 1, (1, INPUTS)).astype(np.float32)
    models = [graph(gemm=True, matrix=matrix) for _ in range(3)]
    for model in models:
        model.graph.inputs[0].shape = ir.Shape([1, INPUTS])
        model.graph.outputs[0].shape = ir.Shape([1, outputs])
    int8, int4, both = (OnnxRuntimeDialect(model, "float32") for model in models)
    int8.int8(find_matmuls(models[0])[0], 1.0)
    int4.int4(find_matmuls(models[1])[0], 64, np.ones(INPUTS, np.float32))
    both.int8_candidates(find_matmuls(models[2])[0], 1.0, 64)
    exact, coarse, chosen = (run(model, x)[0] for model in models)
    candidates = np.argsort(-coarse)[:64]
    np.testing.assert_allclose(chosen[candidates], exact[candidates], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.delete(chosen, candidates), np.delete(coarse, candidates))
    assert np.abs(coarse - exact).max() > 0.1
    assert chosen.argmax() == exact.argmax()
    ir.save(models[2], tmp_path / "folder" / "graph.onnx")
    check_fused(tmp_path / "folder" / "graph.onnx")


def test_int4_for_tensorrt_is_a_block_dequantize_of_opset_21() -> None:
    model = graph("float16")
    QdqDialect(model, "float16").int4(find_matmuls(model)[0], 64, np.ones(INPUTS, np.float32))
    (node,) = (node for node in model.graph if node.op_type == "DequantizeLinear")
    assert node.attributes["block_size"].as_int() == 64
    assert model.graph.initializers["w.int4"].dtype == ir.DataType.INT4
    assert model.graph.opset_imports[""] == 21
    onnx.checker.check_model(ir.to_proto(model))


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_each_threshold_of_one_activation_clips_for_itself(target: str) -> None:
    model = graph()
    value = ir.Value(
        name="v.transposed", const_value=ir.tensor(weight()), shape=ir.Shape([INPUTS, OUTPUTS])
    )
    model.graph.register_initializer(value)
    second = ir.node("MatMul", [model.graph.inputs[0], value])
    second.outputs[0].name = "z"
    second.outputs[0].type = model.graph.outputs[0].type
    second.outputs[0].shape = model.graph.outputs[0].shape
    model.graph.append(second)
    model.graph.outputs.append(second.outputs[0])
    dialect = DIALECTS[target](model, "float32")
    for matmul, threshold in zip(find_matmuls(model), (3.0, 0.5), strict=True):
        dialect.int8(matmul, threshold)
    x = np.random.default_rng(1).uniform(-3, 3, (5, INPUTS)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wide, narrow = session.run(None, {"x": x})
    for outputs, threshold in ((wide, 3.0), (narrow, 0.5)):
        expected = np.clip(x, -threshold, threshold) @ weight()
        assert np.abs(np.asarray(outputs) - expected).max() < 0.1 * np.abs(expected).max()


def test_matmuls_of_one_activation_share_its_rounding() -> None:
    model = graph()
    first = find_matmuls(model)[0].node
    value = ir.Value(
        name="v.transposed", const_value=ir.tensor(weight()), shape=ir.Shape([INPUTS, OUTPUTS])
    )
    model.graph.register_initializer(value)
    second = ir.node("MatMul", [first.inputs[0], value])
    model.graph.append(second)
    dialect = OnnxRuntimeDialect(model, "float32")
    for matmul in find_matmuls(model):
        dialect.int8(matmul, threshold=3.0)
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph) == 1
