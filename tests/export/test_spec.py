"""What a spec says of its tensors, and of an int8 cache."""

from __future__ import annotations

import numpy as np
import torch

from vpt_edge.calibration.smoothing import Smoothing
from vpt_edge.export.spec import Spec, floats, weight_and_bias, with_cache
from vpt_edge.runtime.manifest import Graph, Tensor

GRAPH = Graph(
    "decoder.onnx",
    (floats("embeds", 1, "sequence", 8), Tensor("past.0.key", "float32", (1, "past", 4))),
    (floats("logits", 1, 16), Tensor("present.0.key", "float32", (1, "sequence", 4))),
    {},
)


def spec() -> Spec:
    return Spec(
        GRAPH,
        lambda attention: torch.nn.Identity(),
        lambda name: f"model.{name}",
        weight_transforms={"patch.weight": lambda weight: weight.flatten(1)},
        value_weights={"0.value": "v_proj.weight"},
    )


def test_a_parameter_is_read_by_its_name_in_the_checkpoint_and_brought_into_shape() -> None:
    tensors = {"model.patch.weight": torch.zeros(4, 3, 2), "model.norm.weight": torch.ones(4)}
    assert spec().read("patch.weight", tensors.__getitem__).shape == (4, 6)
    assert spec().read("norm.weight", tensors.__getitem__) is tensors["model.norm.weight"]


def test_a_layer_with_a_bias_has_two_tensors() -> None:
    assert weight_and_bias("fc", (4, 8)) == {"fc.weight": (4, 8), "fc.bias": (4,)}


def test_the_dtype_of_the_cache_is_that_of_keys_and_values_alone() -> None:
    graph = with_cache(GRAPH, "int8")
    assert [tensor.dtype for tensor in graph.inputs] == ["float32", "int8"]
    assert [tensor.dtype for tensor in graph.outputs] == ["float32", "int8"]


def test_the_steps_of_a_cache_follow_the_smoothing_of_its_values() -> None:
    largest = {
        "0.key": np.array([127, 0], np.float32),
        "0.value": np.array([254, 127], np.float32),
    }
    smoothing = Smoothing(rows={"v_proj.weight": (0, np.array([2.0, 1.0]))})
    plain = spec().cache_scales(largest, None)
    smooth = spec().cache_scales(largest, smoothing)
    np.testing.assert_allclose(plain["0.value"], [2, 1])
    np.testing.assert_allclose(smooth["0.value"], [1, 1])
    np.testing.assert_allclose(smooth["0.key"], [1, 1e-6 / 127])
    assert {scales.dtype for scales in smooth.values()} == {np.dtype(np.float32)}
