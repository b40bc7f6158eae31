"""A quantized export end to end: small, judged and explained, and with the answers of its float
self.
"""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import onnx
import pytest
from golden import (
    TAGS,
    Case,
    Exporter,
    check_decisions,
    needs_golden,
    needs_ort_131,
    own_samples,
)

from vpt_edge.export.exporter import export
from vpt_edge.export.quantization import onnxruntime
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.live import scenes
from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.kv_cache import KVCache

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


@pytest.fixture(scope="module", params=["int8", "int4"])
def quantized(request: pytest.FixtureRequest, exported: Exporter) -> Bundle:
    return exported(TAGS, request.param)


def test_a_quantized_bundle_is_small_judged_and_explained(
    quantized: Bundle, exported: Exporter
) -> None:
    manifest = quantized.manifest
    assert manifest.gate is not None
    assert manifest.gate.held
    assert manifest.gate.triggers_equal >= 0.9
    full = sum(path.stat().st_size for path in exported(TAGS).path.iterdir())
    assert (
        sum(path.stat().st_size for path in quantized.path.iterdir() if path.suffix != ".html")
        < 0.31 * full
    )
    report, page = (
        quantized.file("report.md").read_text(),
        quantized.file("report.html").read_text(),
    )
    assert "held-out samples" in report
    assert "Widest ranges" in page
    ranges = json.loads(quantized.file("ranges.json").read_text())
    assert set(ranges["thresholds"]["vision_encoder"]) > {
        "blocks.0.attn.qkv.weight",
        "merger.mlp.0.weight",
    }


def test_a_quantized_tied_matrix_is_stored_once(quantized: Bundle) -> None:
    graph = onnx.load(str(quantized.file("decoder.onnx")), load_external_data=False).graph
    (head,) = (item for item in graph.initializer if item.name == "lm_head.weight.int8")
    assert {entry.key: entry.value for entry in head.external_data}[
        "location"
    ] == quantized.manifest.text.embeddings


def test_a_quantized_bundle_answers_as_its_float_self(
    quantized: Bundle, exported: Exporter
) -> None:
    rng, equal, asked = Random(77), 0, 0
    with Pipeline(quantized) as ours, Pipeline(exported(TAGS)) as theirs:
        for _ in range(8):
            picture, samples = scenes.scene(rng)
            for sample in samples[:3]:
                answers = [
                    p.ask(picture, sample.question, perception=sample.perception, max_new_tokens=16)
                    for p in (ours, theirs)
                ]
                equal, asked = equal + (answers[0].raw == answers[1].raw), asked + 1
    assert equal >= 0.85 * asked


@needs_golden
@pytest.mark.parametrize("name", ["clip_reencode_640x480", "region_two_1280x720"])
def test_answers_are_kept_where_int4_chooses_candidates(name: str, tmp_path: Path) -> None:
    """As it is with a vocabulary of real size."""
    case = Case(name)
    calibration = Calibration(str(own_samples(case.model, tmp_path)), max_drop=100, block=64)
    with mock.patch.multiple(onnxruntime, MANY_OUTPUTS=1, CANDIDATES=8):
        bundle = export(
            str(case.model), tmp_path / "bundle", precision="int8", calibration=calibration
        )
    graph = onnx.load(str(bundle.file("decoder.onnx")), load_external_data=False).graph
    assert [node.op_type for node in graph.node].count("TopK") == 1
    check_decisions(case.ask(bundle), case)


@needs_ort_131
def test_an_int8_cache_holds_what_a_float_one_does_to_half_a_step(exported: Exporter) -> None:
    """Of the first layer, whose keys and values nothing rounded comes before but the matmuls in
    front of them.

    The ranges are those of the float model: what these matmuls round beyond them is clipped.
    """
    picture, samples = scenes.scene(Random(78))
    bundles = [exported(TAGS, "int8", kv_cache=kind) for kind in ("float", "int8")]
    caches = [cached(bundle, picture, samples[0].question) for bundle in bundles]
    scales = json.loads(bundles[1].file("ranges.json").read_text())["cache"]
    assert bundles[1].manifest.cache.dtype == "int8"
    assert len(scales) == 2 * bundles[1].manifest.text.layers
    for part in ("key", "value"):
        exact, rounded = (cache[part] for cache in caches)
        step = np.array(scales[f"0.{part}"])
        assert rounded.dtype == np.int8
        assert len(rounded) > 64
        inside = np.abs(exact) <= 127 * step
        assert inside.mean() > 0.99
        assert (np.abs(exact) <= 1.1 * 127 * step).all()
        assert (rounded * np.sign(exact) >= 127)[~inside].all()
        assert (np.abs(rounded * step - exact) <= 0.51 * step)[inside].all()
        assert np.median(np.abs(rounded).max(0)) > 50  # the steps are not wider than they must be


def cached(bundle: Bundle, picture: Image.Image, question: str) -> dict[str, Any]:
    """The first layer's keys and values behind one question."""
    made = list[KVCache]()

    def keep(*arguments: Any) -> KVCache:
        made.append(KVCache(*arguments))
        return made[0]

    with mock.patch("vpt_edge.runtime.decoder.KVCache", keep), Pipeline(bundle) as pipeline:
        pipeline.ask(picture, question, perception="off", max_new_tokens=1)
        return {part: made[0].read(0, part).copy() for part in ("key", "value")}
