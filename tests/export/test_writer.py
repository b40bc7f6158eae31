"""Weights that a bundle cannot hold are named while they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import Copy, Tensors, change_tensors
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.writer import BundleWriter
from vpt_edge.runtime.errors import CheckpointError, ExportError

pytestmark = needs_golden

TABLE = "model.embed_tokens.weight"
MATMUL = "model.layers.1.mlp.up_proj.weight"
BIAS = "visual.blocks.0.attn.qkv.bias"


def open_with(folder: Path, name: str, value: float) -> Checkpoint:
    """The checkpoint in ``folder`` with one number of one tensor changed."""

    def change(tensors: Tensors) -> None:
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[-1] = value

    change_tensors(folder, change)
    return Checkpoint.open(str(folder))


def writer(checkpoint: Checkpoint, precision: str, target: str, folder: Path) -> BundleWriter:
    return BundleWriter(checkpoint, RECIPES[precision], target, 64, folder)


def compute_weights(job: BundleWriter, graph: str) -> None:
    """Compute what would be written of a graph."""
    for value in job.build_graph(graph).graph.initializers.values():
        assert value.const_value is not None
        value.const_value.tobytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_embedding_that_is_no_number_is_named(
    precision: str, value: float, copy: Copy, tmp_path: Path
) -> None:
    checkpoint = open_with(copy("clip_untied"), TABLE, value)
    with pytest.raises(CheckpointError, match=f"{TABLE} holds numbers that are NaN or infinite"):
        writer(checkpoint, precision, "onnxruntime", tmp_path).write_tables()


@pytest.mark.parametrize(("name", "graph"), [(MATMUL, "decoder"), (BIAS, "vision_encoder")])
def test_a_weight_that_is_no_number_is_named(
    name: str, graph: str, copy: Copy, tmp_path: Path
) -> None:
    checkpoint = open_with(copy("clip_untied"), name, float("nan"))
    with pytest.raises(CheckpointError, match=f"{name} holds numbers"):
        compute_weights(writer(checkpoint, "fp32", "onnxruntime", tmp_path), graph)


@pytest.mark.parametrize(
    ("name", "graph"),
    [
        ("model.norm.weight", "decoder"),  # they lie in the graph's own file
        ("model.layers.0.self_attn.k_proj.bias", "decoder"),
        ("clip_projector.layernorm_condition.bias", "reencoder_projector"),
    ],
)
def test_a_small_weight_that_is_no_number_is_named_where_it_is_written(
    name: str, graph: str, copy: Copy, tmp_path: Path
) -> None:
    checkpoint = open_with(copy("clip_untied"), name, float("nan"))
    with pytest.raises(CheckpointError, match=f"{name} holds numbers"):
        writer(checkpoint, "fp32", "onnxruntime", tmp_path).write_graph(graph)


def test_a_small_weight_beyond_float16_is_named_where_it_is_written(
    copy: Copy, tmp_path: Path
) -> None:
    checkpoint = open_with(copy("clip_untied"), "model.layers.0.self_attn.k_proj.bias", 1e5)
    with pytest.raises(ExportError, match=r"k_proj\.bias has numbers up to"):
        writer(checkpoint, "fp16", "onnxruntime", tmp_path).write_graph("decoder")


def test_an_embedding_beyond_float16_is_named_where_it_is_written(
    copy: Copy, tmp_path: Path
) -> None:
    checkpoint = open_with(copy("clip_untied"), TABLE, 1e5)
    writer(checkpoint, "fp32", "onnxruntime", tmp_path).write_tables()
    writer(checkpoint, "int8", "tensorrt", tmp_path).write_tables()  # int8 with float32 scales
    expected = rf"{TABLE} has numbers up to 1e\+05, but float16 ends at 65,504"
    with pytest.raises(ExportError, match=expected):
        writer(checkpoint, "fp16", "onnxruntime", tmp_path).write_tables()


@pytest.mark.parametrize("name", [MATMUL, BIAS])
@pytest.mark.parametrize(
    ("precision", "target"), [("fp16", "onnxruntime"), ("fp16", "tensorrt"), ("int8", "tensorrt")]
)
def test_a_weight_beyond_float16_is_named(
    precision: str, target: str, name: str, copy: Copy, tmp_path: Path
) -> None:
    checkpoint = open_with(copy("clip_untied"), name, -1e5)
    job = writer(checkpoint, precision, target, tmp_path)
    spec = job.specs["decoder" if name == MATMUL else "vision_encoder"]
    parameter = name.removeprefix("model.").removeprefix("visual.")
    with pytest.raises(ExportError, match=f"{name} has numbers up to"):
        job.loader(spec)(parameter)
    plain = writer(checkpoint, "fp32", "onnxruntime", tmp_path)
    assert plain.loader(plain.specs[spec.name])(parameter).min() == -1e5
