"""ONNX Runtime's errors: cut to what is wrong, the whole kept as the cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

from vpt_edge.calibration.cpu_session import open_cpu_session
from vpt_edge.runtime import Bundle
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.sessions.failure import LONGEST, summarize
from vpt_edge.runtime.sessions.ort import OrtSession
from vpt_edge.runtime.testing import tiny_bundle

PREFIX = "[ONNXRuntimeError] : 1 : FAIL : "
SOURCES = "/onnxruntime_src/onnxruntime/core"
# What ONNX Runtime 1.23 to 1.31 say, and what is left of it.
TEXTS = [
    (
        f"{PREFIX}Load model from /a b/m.onnx failed:{SOURCES}/graph/model.cc:256 "
        "onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::PathString&) "
        "Unsupported model IR version: 99, max supported IR version: 13\n",
        "Unsupported model IR version: 99, max supported IR version: 13",
    ),
    (
        f"{PREFIX}Load model from /proc/7/fd/9/m.onnx failed:Protobuf parsing failed.",
        "Protobuf parsing failed",
    ),
    (
        f"{PREFIX}Load model from m.onnx failed:This is an invalid model. In Node, "
        '("r", Reshape, "", -1) : ("x": tensor(float),) -> ("y": tensor(float),) , Error Node(r) '
        "with schema(::Reshape:19) has input size 1 not in range [min=2, max=2].",
        "Node(r) with schema(::Reshape:19) has input size 1 not in range [min=2, max=2]",
    ),
    (
        f"{PREFIX}Exception during initialization: {SOURCES}/optimizer/initializer.cc:51 "
        "onnxruntime::Initializer::Initializer(const onnx::TensorProto&, const path&) "
        f"{PREFIX}tensorprotoutils.cc:1876 GetExtDataFromTensorProto External initializer: w "
        "offset: 0 size to read: 16 given file_length: 4 are out of bounds.\n",
        "External initializer: w offset: 0 size to read: 16 given file_length: 4 are out of bounds",
    ),
    (
        f"{PREFIX}External data path validation failed for initializer: w. Error: "
        'tensorprotoutils.cc:461 Validate External data path does not exist: "/x/gone.data"',
        "External data path does not exist: gone.data",
    ),
    (
        f"{PREFIX}Non-zero status code returned while running Reshape node. Name:'a node' Status "
        f"Message: {SOURCES}/reshape_helper.h:91 onnxruntime::Helper::Helper(const "
        "onnxruntime::TensorShape&, bool) size == requested was false. The input tensor cannot be "
        "reshaped to the requested shape. Input shape:{3}, requested shape:{7}\n",
        "Reshape node a node: The input tensor cannot be reshaped to the requested shape. "
        "Input shape:{3}, requested shape:{7}",
    ),
    (
        f"{PREFIX}CUDA failure 2: out of memory ; GPU=0 ; hostname=box ; file=/x/cuda_call.cc ; "
        "line=129 ; expr=cudaMalloc((void**)&p, size);",
        "CUDA failure 2: out of memory",
    ),
    (
        f"{PREFIX}Failed to allocate memory for requested buffer of size 64\nStacktrace:\n(a.so)",
        "Failed to allocate memory for requested buffer of size 64",
    ),
    (
        "Unexpected input data type. Actual: (tensor(double)) , expected: (tensor(float))",
        "Unexpected input data type. Actual: (tensor(double)) , expected: (tensor(float))",
    ),
    (
        "Error in execution: Non-zero status code returned while running Gather node. Name:'g' "
        "Status Message: indices element out of data bounds, idx=9 must be within [-4,3]",
        "Gather node g: indices element out of data bounds, idx=9 must be within [-4,3]",
    ),
    (
        "Error in execution: Invalid rank for input: x Got: 2 Expected: 1 Please fix either the "
        "inputs/outputs or the model.",
        "Invalid rank for input: x Got: 2 Expected: 1",
    ),
    (
        f"Error when binding output: {SOURCES}/session/IOBinding.cc:39 "
        "onnxruntime::common::Status onnxruntime::IOBinding::BindInput(const std::string&, const "
        "OrtValue&) a.size() == b.size() was false. Size mismatch:2!=1 index=0 it.second=1\n",
        "Size mismatch:2!=1 index=0 it.second=1",
    ),
    ("", "RuntimeError"),
]


@pytest.mark.parametrize(("text", "summary"), TEXTS)
def test_what_is_wrong_is_left(text: str, summary: str) -> None:
    assert summarize(RuntimeError(text)) == summary


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "Invalid model. " * 10_000,
        "a::" * 10_000,
        f"{SOURCES}/model.cc:1 a::b" + "(" * 20_000,
        "In Node, " * 5_000,
        "/a" * 20_000,
        "while running A node. Name:'" * 2_000,
    ],
)
def test_a_graph_cannot_make_it_long(text: str) -> None:
    assert len(summarize(RuntimeError(text))) <= LONGEST + 3


def model(operator: str, inputs: dict[str, Any], ir_version: int = 9) -> ModelProto:
    values = [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m"])
    node = helper.make_node(operator, [*inputs], ["y"], name="node")
    graph = helper.make_graph([node], "graph", values, [output])
    opset = helper.make_opsetid("", 19)
    return helper.make_model(graph, opset_imports=[opset], ir_version=ir_version)


X = {"x": (TensorProto.FLOAT, ["n"])}
REFUSED: dict[str, Callable[[], bytes]] = {
    "version": lambda: model("Identity", X, ir_version=99).SerializeToString(),
    "operator": lambda: model("Nonsense", X).SerializeToString(),
    "arity": lambda: model("Reshape", X).SerializeToString(),
    "cut off": lambda: model("Identity", X).SerializeToString()[:-3],
    "no graph": lambda: b"",
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_opening_says_it_in_short(case: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    bundle.file("decoder.onnx").write_bytes(REFUSED[case]())
    with pytest.raises(SessionError) as caught:
        OrtSession(Bundle(bundle.path, bundle.manifest), "decoder")
    text = caught.value.problem
    assert text.startswith(f"ONNX Runtime {onnxruntime.__version__} cannot open decoder.onnx: ")
    assert len(text) < 200
    for noise in ("ONNXRuntimeError", ".cc:", str(tmp_path), "In Node"):
        assert noise not in text
    assert "[ONNXRuntimeError]" in str(caught.value.__cause__)


def test_the_installed_version_says_it_in_these_words() -> None:
    session = open_cpu_session(
        model("Reshape", {**X, "s": (TensorProto.INT64, [1])}).SerializeToString()
    )
    with pytest.raises(Exception, match="Reshape") as caught:
        session.run(None, {"x": np.zeros(3, np.float32), "s": np.array([7])})
    summary = summarize(caught.value)
    assert summary.startswith("Reshape node node: The input tensor cannot be reshaped")
    assert ".h:" not in summary
