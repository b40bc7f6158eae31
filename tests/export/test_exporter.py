"""What vpt-export writes: operators, opset, bytes, parity, and how a failed export ends."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from golden import GOLDEN, TAGS, Exporter, needs_golden

from vpt_edge.export import exporter, verify
from vpt_edge.export.quantization import recipe
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.export.writer import BundleWriter
from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.errors import BundleError, CheckpointError, ExportError, VptError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import Manifest, read_manifest, write_manifest

# What no parser of TensorRT 10.3 takes, whatever the opset.
REFUSED = {
    "Attention",
    "TensorScatter",
    "RotaryEmbedding",
    "RMSNormalization",
    "SequenceAt",
    "SplitToSequence",
    "Loop",
}


def graphs(bundle: Bundle) -> dict[str, onnx.ModelProto]:
    return {
        name: onnx.load(str(bundle.file(graph.file)), load_external_data=False)
        for name, graph in bundle.manifest.graphs.items()
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_tensorrt_graphs_hold_the_limits_of_10_3(precision: str, exported: Exporter) -> None:
    for name, model in graphs(exported(TAGS, precision, "tensorrt")).items():
        blocks = precision == "int4" and name == "decoder"  # INT4 came with opset 21
        assert {entry.domain: entry.version for entry in model.opset_import} == {
            "": 21 if blocks else 19
        }, name
        assert not {node.op_type for node in model.graph.node} & REFUSED, name
        check_scales(model)


def check_scales(model: onnx.ModelProto) -> None:
    """Q/DQ is signed and symmetric, its scales are FP16 and positive, and only weights have one a
    channel.
    """
    stored = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = stored[node.input[1]]
        assert scale.data_type == onnx.TensorProto.FLOAT16
        if len(node.input) > 2:
            zero = stored[node.input[2]]
            assert zero.data_type == onnx.TensorProto.INT8
            assert not onnx.numpy_helper.to_array(zero).any()
            assert onnx.numpy_helper.to_array(scale) > 0
        else:
            assert stored[node.input[0]].data_type in (onnx.TensorProto.INT8, onnx.TensorProto.INT4)


def test_onnxruntime_graphs_use_one_contrib_attention_a_layer(exported: Exporter) -> None:
    bundle = exported(TAGS)
    operators = [node.op_type for node in graphs(bundle)["decoder"].graph.node]
    assert operators.count("GroupQueryAttention") == bundle.manifest.text.layers


@pytest.mark.parametrize(
    ("precision", "product"), [("int8", "MatMulIntegerToFloat"), ("int4", "MatMulNBits")]
)
def test_a_quantized_layer_has_five_products_for_onnxruntime(
    precision: str, product: str, exported: Exporter
) -> None:
    """Queries, keys and values come from one, and are rotated by the attention."""
    bundle = exported(TAGS, precision)
    operators = [node.op_type for node in graphs(bundle)["decoder"].graph.node]
    assert operators.count(product) == 5 * bundle.manifest.text.layers
    assert "RotaryEmbedding" not in operators


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_the_manifest_describes_the_graphs(target: str, exported: Exporter) -> None:
    bundle = exported(TAGS, "fp16", target)
    for name, model in graphs(bundle).items():
        graph = bundle.graph(name)
        for values, tensors in (
            (model.graph.input, graph.inputs),
            (model.graph.output, graph.outputs),
        ):
            for value, tensor in zip(values, tensors, strict=True):
                kind = value.type.tensor_type
                shape = tuple(size.dim_param or size.dim_value for size in kind.shape.dim)
                assert (value.name, shape) == (tensor.name, tensor.shape)
                assert onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) == np.dtype(
                    tensor.dtype
                )
        axes = {
            size
            for tensor in (*graph.inputs, *graph.outputs)
            for size in tensor.shape
            if isinstance(size, str)
        }
        assert axes == set(graph.bounds)


def test_a_tied_matrix_is_stored_once(exported: Exporter) -> None:
    bundle = exported(TAGS)
    (head,) = (
        item
        for item in graphs(bundle)["decoder"].graph.initializer
        if item.name == "lm_head.weight"
    )
    where = {entry.key: entry.value for entry in head.external_data}
    assert where["location"] == bundle.manifest.text.embeddings
    assert int(where["length"]) == bundle.file(bundle.manifest.text.embeddings).stat().st_size


@needs_golden
def test_an_untied_matrix_is_its_own(exported: Exporter) -> None:
    bundle = exported(GOLDEN / "models" / "clip_untied")
    (head,) = (
        item
        for item in graphs(bundle)["decoder"].graph.initializer
        if item.name == "lm_head.weight"
    )
    assert {entry.key: entry.value for entry in head.external_data}[
        "location"
    ] == "decoder.onnx.data"


def test_parity_rows_cover_every_graph(exported: Exporter) -> None:
    manifest = exported(TAGS).manifest
    assert {row.graph for row in manifest.parity} == set(manifest.graphs)
    assert all(0 <= row.difference <= row.tolerance for row in manifest.parity)
    assert all(
        f"{row.difference:.1e}" in exported(TAGS).file("report.md").read_text()
        for row in manifest.parity
    )


def test_a_graph_out_of_tolerance_fails_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_difference", lambda got, want: 1e-3)
    with pytest.raises(ExportError, match=r"vision_encoder.onnx differs from torch by 1.0e-03"):
        exporter.export(str(TAGS), tmp_path / "bundle", precision="fp32")
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_a_difference() -> None:
    assert verify._difference(np.array([np.nan]), np.array([1.0])) == float("inf")


def test_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    def stop(stage: str, done: float) -> None:
        if "decoder" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exporter.export(str(TAGS), tmp_path / "bundle", precision="fp32", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_is_replaced_only_by_a_complete_one(
    tmp_path: Path, exported: Exporter
) -> None:
    place = Path(shutil.copytree(exported(TAGS, "fp16").path, tmp_path / "bundle"))

    def stop(stage: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exporter.export(str(TAGS), place, precision="fp32", progress=stop)
    assert Bundle.open(place).manifest.precision == "fp16"
    bundle = exporter.export(str(TAGS), place, precision="fp32")
    assert bundle == Bundle.open(place)
    assert bundle.manifest.precision == "fp32"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_that_does_not_answer_replaces_nothing(
    tmp_path: Path, exported: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(exported(TAGS, "fp16").path, tmp_path / "bundle"))
    seal = BundleWriter.seal

    def seal_badly(self: BundleWriter, manifest: Manifest) -> None:
        seal(self, replace(manifest, cache=replace(manifest.cache, capacity=8)))

    monkeypatch.setattr(BundleWriter, "seal", seal_badly)
    with pytest.raises(ExportError, match=r"does not answer"):
        exporter.export(str(TAGS), place, precision="fp32")
    assert Bundle.open(place).manifest.precision == "fp16"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_a_new_bundle_is_opened_and_asked(target: str, tmp_path: Path, exported: Exporter) -> None:
    bundle = exported(TAGS, "fp32", target)
    assert verify.try_bundle(bundle.path) == bundle.manifest
    copy = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    (copy / "reencoder_projector.onnx").write_bytes(b"")
    with pytest.raises(ExportError, match=r"does not answer .*altered"):
        verify.try_bundle(copy)
    hashes = {
        **bundle.manifest.files,
        "reencoder_projector.onnx": sha256(copy / "reencoder_projector.onnx"),
    }
    write_manifest(replace(bundle.manifest, files=hashes), copy)
    if target == "tensorrt":  # its graphs run on the device alone
        verify.try_bundle(copy)
    else:
        with pytest.raises(ExportError, match=r"does not answer .*cannot open"):
            verify.try_bundle(copy)


def test_a_bundle_knows_when_another_export_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    first = exporter.export(str(TAGS), path, precision="fp32", cache_tokens=512)
    Pipeline(first).close()
    exporter.export(str(TAGS), path, precision="fp32", cache_tokens=1024)
    with pytest.raises(BundleError, match="was replaced while it was in use"):
        Pipeline(first)


@pytest.mark.parametrize("value", [224.5, "512", None, True])
def test_a_config_value_of_another_type_is_said_before_the_work(
    value: object, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(TAGS, tmp_path / "checkpoint"))
    file = folder / "preprocessor_config.json"
    config = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**config, "image_resolution": value}))
    stages: list[str] = []
    with pytest.raises(CheckpointError, match=r"image_resolution is .*, expected a whole number"):
        exporter.export(
            str(folder),
            tmp_path / "bundle",
            precision="fp32",
            progress=lambda stage, done: stages.append(stage),
        )
    assert stages == ["reading the checkpoint"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_rope_theta_of_another_type_is_said_before_the_work(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TAGS, tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "rope_theta": str(config["rope_theta"])})
    )
    stages: list[str] = []
    with pytest.raises(CheckpointError, match=r"rope_theta is '10\.0', expected a number"):
        exporter.export(
            str(folder),
            tmp_path / "bundle",
            precision="fp32",
            progress=lambda stage, done: stages.append(stage),
        )
    assert stages == ["reading the checkpoint"]


def test_a_symlink_as_output_is_followed(tmp_path: Path, exported: Exporter) -> None:
    (tmp_path / "disk").mkdir()
    shutil.copytree(exported(TAGS, "fp16").path, tmp_path / "disk" / "bundle")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "bundle")
    bundle = exporter.export(str(TAGS), tmp_path / "link", precision="fp32")
    assert bundle.path == tmp_path / "link"
    assert (tmp_path / "link").is_symlink()
    assert Bundle.open(tmp_path / "disk" / "bundle").manifest.precision == "fp32"
    assert sorted(path.name for path in tmp_path.rglob("*bundle*")) == ["bundle"]


def test_unknown_precision_and_target_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=", ".join(recipe.RECIPES)):
        exporter.export(str(TAGS), tmp_path / "bundle", precision="fp5")
    with pytest.raises(ExportError, match="onnxruntime, tensorrt"):
        exporter.export(str(TAGS), tmp_path / "bundle", precision="fp32", target="coreml")


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_both_cache_layouts_give_the_same_answer(target: str, exported: Exporter) -> None:
    picture = np.full((480, 640, 3), 90, np.uint8)
    with Pipeline(exported(TAGS)) as one, Pipeline(exported(TAGS, "fp32", target)) as other:
        answers = [
            pipeline.ask(
                picture,
                "Is there a star?",
                perception="region",
                max_new_tokens=12,
                keep_logits=True,
            )
            for pipeline in (one, other)
        ]
    assert answers[0].turns == answers[1].turns
    for first, second in zip(answers[0].turns, answers[1].turns, strict=True):
        assert first.logits is not None and second.logits is not None
        np.testing.assert_allclose(first.logits, second.logits, atol=5e-4)


def test_the_manifest_survives_a_round_trip(exported: Exporter) -> None:
    bundle = exported(TAGS)
    assert read_manifest(bundle.path) == bundle.manifest


def test_missing_calibration_data_is_told_before_the_float_reference(tmp_path: Path) -> None:
    stages = []
    options = Calibration(str(tmp_path / "missing.jsonl"))
    with pytest.raises(VptError, match="no data at"):
        exporter.export(
            str(TAGS),
            tmp_path / "bundle",
            precision="int8",
            calibration=options,
            progress=lambda stage, done: stages.append(stage),
        )
    assert stages == ["reading the checkpoint"]
