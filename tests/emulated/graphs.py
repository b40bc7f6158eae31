"""A bundle of two small graphs for the ``tensorrt`` target, with numbers easy to follow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from vpt_edge.runtime import Bundle
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import CacheConfig, Graph, Tensor, write_manifest
from vpt_edge.runtime.testing import tiny_bundle

WIDTH = 8
ROWS = 4096
_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}

DOUBLE = Graph(
    "double.onnx",
    (Tensor("x", "float32", (1, "count", WIDTH)),),
    (Tensor("twice", "float32", (1, "count", WIDTH)), Tensor("total", "float32", (1, WIDTH))),
    {"count": (1, 4, 64)},
)
"""twice = 2 x; total = the sum of x's rows."""

DECODER = Graph(
    "decoder.onnx",
    (
        Tensor("embeds", "float32", (1, "sequence", WIDTH)),
        Tensor("past.0.key", "float32", (1, "past", WIDTH)),
        Tensor("past.0.value", "float32", (1, "past", WIDTH)),
        Tensor("filled", "int32", ()),
    ),
    (
        Tensor("hidden", "float32", (1, WIDTH)),
        Tensor("token", "int64", (1,)),
        Tensor("present.0.key", "float32", (1, "sequence", WIDTH)),
        Tensor("present.0.value", "float32", (1, "sequence", WIDTH)),
    ),
    {"sequence": (1, 16, 64), "past": (256, 512, ROWS)},
)
"""present.0.key = embeds, present.0.value = 2 embeds; hidden = the sum of the filled
past and of the new keys and values; token = where hidden is largest."""


def small_bundle(folder: Path, target: str = "tensorrt") -> Bundle:
    tiny = tiny_bundle(folder)
    save(folder / DOUBLE.file, DOUBLE, _double())
    save(folder / DECODER.file, DECODER, _decoder())
    graphs = {"double": DOUBLE, "decoder": DECODER}
    files = {name: tiny.manifest.files[name] for name in ("tokenizer.json", "embeddings.bin")}
    files |= {graph.file: sha256(folder / graph.file) for graph in graphs.values()}
    cache = CacheConfig("appended", "float32", ROWS)
    text = dataclasses.replace(tiny.manifest.text, kv_heads=1, head_dim=WIDTH)
    manifest = dataclasses.replace(
        tiny.manifest, graphs=graphs, files=files, target=target, cache=cache, text=text
    )
    write_manifest(manifest, folder)
    return Bundle(folder, manifest)  # not read: its graphs are not those of a model


def save(path: Path, graph: Graph, nodes: list[Any], opset: int = 19) -> None:
    """Write an ONNX file with the interface of ``graph``."""
    inputs, outputs = (
        [_value(tensor) for tensor in tensors] for tensors in (graph.inputs, graph.outputs)
    )
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
        helper.make_tensor("one", TensorProto.INT64, [], [1]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("last", TensorProto.INT64, [1], [-1]),
        helper.make_tensor("two", TensorProto.FLOAT, [], [2]),
        helper.make_tensor("none", TensorProto.FLOAT, [], [0]),
    ]
    onnx.save(
        helper.make_model(
            helper.make_graph(nodes, path.stem, inputs, outputs, constants),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=9,
        ),
        path,
    )


def _value(tensor: Tensor) -> Any:
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.dtype], tensor.shape)


def _double() -> list[Any]:
    return [
        helper.make_node("Mul", ["x", "two"], ["twice"]),
        helper.make_node("ReduceSum", ["x", "axis"], ["total"], keepdims=0),
    ]


def _decoder() -> list[Any]:
    nodes = [
        helper.make_node("Identity", ["embeds"], ["present.0.key"]),
        helper.make_node("Mul", ["embeds", "two"], ["present.0.value"]),
        helper.make_node("Shape", ["past.0.key"], ["rows"], start=1, end=2),
        helper.make_node("Squeeze", ["rows"], ["count"]),
        helper.make_node("Range", ["zero", "count", "one"], ["places"]),
        helper.make_node("Cast", ["filled"], ["behind"], to=TensorProto.INT64),
        helper.make_node("Less", ["places", "behind"], ["seen"]),
        helper.make_node("Unsqueeze", ["seen", "last"], ["mask"]),
    ]
    for part in ("key", "value"):
        nodes += [
            helper.make_node("Where", ["mask", f"past.0.{part}", "none"], [f"{part}.known"]),
            helper.make_node(
                "Concat", [f"{part}.known", f"present.0.{part}"], [f"{part}.all"], axis=1
            ),
            helper.make_node("ReduceSum", [f"{part}.all", "axis"], [f"{part}.sum"], keepdims=0),
        ]
    return [
        *nodes,
        helper.make_node("Add", ["key.sum", "value.sum"], ["hidden"]),
        helper.make_node("ArgMax", ["hidden"], ["token"], axis=1, keepdims=0),
    ]
