"""The operators of a graph, as ONNX Runtime runs it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
import onnxruntime
import torch

from vpt_edge.export.attention import OnnxRuntimeAttention
from vpt_edge.export.tracing import trace
from vpt_edge.export.weights import attach_weights, strip

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.export.spec import Spec


def operators_of(spec: Spec, folder: Path) -> Counter[str]:
    """How many there are of each; the weights are random."""
    model = trace(spec, OnnxRuntimeAttention, torch.float32)
    with torch.random.fork_rng():
        weights = spec.build(OnnxRuntimeAttention).state_dict()
    attach_weights(model, lambda name: weights[name])
    strip(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    data = ir.to_proto(model).SerializeToString()
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(options.optimized_model_filepath)
    return Counter(node.op_type for node in optimized.graph.node)
