"""Weights are computed when they are written, and lie where the graph says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from vpt_edge.export.attention import PlainAttention
from vpt_edge.export.layers import Linear, Namespace
from vpt_edge.export.spec import Spec, floats
from vpt_edge.export.tracing import trace
from vpt_edge.export.weights import (
    attach_weights,
    cast,
    is_finite,
    lazy_tensor,
    write_int8,
    write_model,
    write_raw,
)
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.manifest import Graph

WEIGHTS = {
    "fc.weight": torch.randn(64, 32, generator=torch.Generator().manual_seed(0)),
    "fc.bias": torch.arange(64, dtype=torch.float32),
}


class Module(Namespace):
    def __init__(self) -> None:
        super().__init__()
        self.fc = Linear(32, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


SPEC = Spec(
    Graph(
        "tiny.onnx",
        (floats("x", 1, "tokens", 32),),
        (floats("y", 1, "tokens", 64),),
        {"tokens": (1, 4, 16)},
    ),
    lambda attention: Module(),
    lambda name: name,
)


def test_a_lazy_tensor_is_computed_each_time_its_bytes_are_asked_for() -> None:
    calls = []

    def make() -> np.ndarray[Any, Any]:
        calls.append(1)
        return np.arange(6, dtype=np.float64).reshape(3, 2).T

    tensor = lazy_tensor("w", ir.DataType.FLOAT16, (2, 3), make)
    assert not calls
    assert tensor.nbytes == 12 and not calls
    expected = np.array([[0, 2, 4], [1, 3, 5]], np.float16)
    assert tensor.tobytes() == tensor.tobytes() == expected.tobytes()
    assert calls


def test_a_lazy_tensor_may_be_of_int4() -> None:
    tensor = lazy_tensor("w", ir.DataType.INT4, (1, 4), lambda: np.array([[1, -2, 3, -4]]))
    assert tensor.numpy().dtype == ml_dtypes.int4
    assert tensor.tobytes() == bytes([0xE1, 0xC3])


@pytest.fixture
def model() -> ir.Model:
    return trace(SPEC, PlainAttention, torch.float32)


def test_a_graph_computes_with_the_weights_that_are_attached(
    model: ir.Model, tmp_path: Path
) -> None:
    asked = list[str]()

    def load(name: str) -> torch.Tensor:
        asked.append(name)
        return WEIGHTS[name]

    attach_weights(model, load)
    assert asked == []
    write_model(model, tmp_path / "tiny.onnx", {})
    assert set(asked) == set(WEIGHTS)
    assert (tmp_path / "tiny.onnx.data").stat().st_size == 64 * 32 * 4
    graph = onnx.load(str(tmp_path / "tiny.onnx"), load_external_data=False).graph
    places = {item.name: item.data_location for item in graph.initializer}
    assert places == {
        "fc.weight.transposed": onnx.TensorProto.EXTERNAL,
        "fc.bias": onnx.TensorProto.DEFAULT,
    }
    assert "Transpose" not in {node.op_type for node in graph.node}
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"))
    x = np.ones((1, 3, 32), np.float32)
    (y,) = session.run(["y"], {"x": x})
    expected = torch.nn.functional.linear(torch.from_numpy(x), *WEIGHTS.values())
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_bytes_that_lie_in_another_file_are_pointed_at(model: ir.Model, tmp_path: Path) -> None:
    attach_weights(model, WEIGHTS.__getitem__)
    stored = tmp_path / "table.bin"
    write_raw(WEIGHTS["fc.weight"].T, torch.float32, stored, "fc.weight")
    write_model(model, tmp_path / "tiny.onnx", {"fc.weight.transposed": stored})
    assert (tmp_path / "tiny.onnx.data").stat().st_size == 0
    graph = onnx.load(str(tmp_path / "tiny.onnx")).graph
    (weight,) = (item for item in graph.initializer if item.name == "fc.weight.transposed")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), WEIGHTS["fc.weight"].T)


def test_a_table_of_int8_has_a_scale_a_row(tmp_path: Path) -> None:
    table = WEIGHTS["fc.weight"]
    write_int8(table, tmp_path / "rows", tmp_path / "scales")
    rows = np.fromfile(tmp_path / "rows", np.int8).reshape(table.shape)
    scales = np.fromfile(tmp_path / "scales", np.float32)
    np.testing.assert_allclose(rows * scales[:, None], table, atol=float(scales.max()) / 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_seen(value: float, dtype: torch.dtype) -> None:
    tensor = torch.randn(100, 30).to(dtype)
    assert is_finite(tensor)
    tensor[67, 8] = value
    assert not is_finite(tensor)


@pytest.mark.parametrize(
    ("value", "source", "dtype"),
    [
        (65504.0, torch.float32, torch.float16),
        (-65519.0, torch.float32, torch.float16),  # rounds to the largest
        (1e-9, torch.bfloat16, torch.float16),
        (3e38, torch.bfloat16, torch.float32),
        (3e38, torch.float64, torch.float32),
    ],
)
def test_a_weight_that_a_dtype_holds_is_cast(
    value: float, source: torch.dtype, dtype: torch.dtype
) -> None:
    tensor = torch.tensor([0.5, value], dtype=source)
    assert torch.equal(cast(tensor, dtype, "fc.weight"), tensor.to(dtype))


@pytest.mark.parametrize(
    ("value", "source", "dtype"),
    [
        (65520.0, torch.float32, torch.float16),
        (-1e5, torch.float32, torch.float16),
        (1e5, torch.bfloat16, torch.float16),
        (1e39, torch.float64, torch.float32),
    ],
)
def test_a_weight_that_a_dtype_does_not_hold_is_named(
    value: float, source: torch.dtype, dtype: torch.dtype, tmp_path: Path
) -> None:
    tensor = torch.tensor([[0.5, value]], dtype=source)
    ends = r"fc.weight has numbers up to .*, but float(16|32) ends at "
    with pytest.raises(ExportError, match=ends):
        cast(tensor, dtype, "fc.weight")
    with pytest.raises(ExportError, match=ends):
        write_raw(tensor, dtype, tmp_path / "rows", "fc.weight")
