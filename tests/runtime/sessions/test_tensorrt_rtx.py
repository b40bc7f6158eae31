"""The graphs of the tensorrt target parse and build with TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from families import CONFIGS
from golden import GOLDEN, TAGS, Exporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.manifest import Graph

trt: Any = pytest.importorskip(
    "tensorrt_rtx_bindings", reason="the TensorRT-RTX wheel is not installed; see Makefile"
)

CHECKPOINTS = [TAGS, *(GOLDEN / "models" / name for name in ("det", "seg") if GOLDEN.is_dir())]

# Of the families; make builds asks for all.
PRECISIONS = os.environ.get("PRECISIONS", "fp16 int4").split()


def build(path: Path, graph: Graph) -> int:
    """Bytes of the plan of an ONNX file, with one profile over the bounds of the manifest."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), [
        str(parser.get_error(index)) for index in range(parser.num_errors)
    ]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for tensor in graph.inputs:
        sizes = [
            [graph.bounds[size][i] if isinstance(size, str) else size for size in tensor.shape]
            for i in range(3)
        ]
        profile.set_shape(tensor.name, *sizes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, f"{path.name} does not build"
    return int(plan.nbytes)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_every_graph_builds(checkpoint: Path, precision: str, exported: Exporter) -> None:
    bundle = exported(checkpoint, precision, "tensorrt")
    for graph in bundle.manifest.graphs.values():
        assert build(bundle.file(graph.file), graph) > 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", CONFIGS)
def test_every_graph_of_a_family_builds(
    family: str, precision: str, family_bundle: Callable[[str, str, str], Bundle]
) -> None:
    bundle = family_bundle(family, precision, "tensorrt")
    for graph in bundle.manifest.graphs.values():
        assert build(bundle.file(graph.file), graph) > 0
