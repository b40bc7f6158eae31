"""A quantized export end to end: calibration in the loop, smoothing, the gate, and what it gives
back to float."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import onnx
import pytest
import scenes
from golden import CASES, DEMO, Case, Exporter, check_decisions, needs_golden, own_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vpt_edge.calibration.collect import Cache, cache_key, collect
from vpt_edge.calibration.recorder import Observer
from vpt_edge.calibration.samples import read_samples
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.exporter import export
from vpt_edge.export.quantization import plan
from vpt_edge.export.quantization.calibrator import Calibration, Planner
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.writer import BundleWriter
from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.kv_cache import KVCache

if TYPE_CHECKING:
    from PIL import Image

    from vpt_edge.export.quantization.plan import Plan
    from vpt_edge.runtime.bundle import Gate

LOUD = 200
HOSTILE = (
    "layers.0.self_attn.q_proj.weight",
    "layers.1.mlp.up_proj.weight",
    "layers.2.mlp.down_proj.weight",
)


@pytest.fixture(scope="module", params=["int8", "int4"])
def quantized(request: pytest.FixtureRequest, exported: Exporter) -> Bundle:
    return exported(DEMO, request.param)


def weights(bundle: Bundle) -> int:
    return sum(
        bundle.file(f"{graph.file}.data").stat().st_size
        for graph in bundle.manifest.graphs.values()
    )


def test_a_quantized_bundle_is_small_judged_and_explained(
    quantized: Bundle, exported: Exporter
) -> None:
    manifest = quantized.manifest
    assert manifest.gate is not None
    assert manifest.gate.held
    assert manifest.gate.triggers_equal >= 0.9
    full = sum(path.stat().st_size for path in exported(DEMO).path.iterdir())
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
    with Pipeline(quantized) as ours, Pipeline(exported(DEMO)) as theirs:
        for _ in range(8):
            picture, samples = scenes.scene(rng)
            for sample in samples[:3]:
                answers = [
                    p.ask(picture, sample.question, perception=sample.perception, max_new_tokens=16)
                    for p in (ours, theirs)
                ]
                equal, asked = equal + (answers[0].raw == answers[1].raw), asked + 1
    assert equal >= 0.85 * asked


def test_a_stopped_calibration_goes_on_where_it_was(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    bundle, samples = exported(DEMO), read_samples(data).samples[:36]

    def run(name: str, stop_at: int | None = None) -> Observer:
        def progress(done: int) -> None:
            if done == stop_at:
                raise KeyboardInterrupt

        observer = Observer()
        collect(
            bundle,
            samples,
            observer,
            Cache(tmp_path / name, cache_key(bundle, samples)),
            "ranges",
            progress,
        )
        return observer

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop_at=21)
    assert json.loads((tmp_path / "stopped").read_text())["passes"]["ranges"]["done"] == 16
    again = run("stopped")
    assert whole.statistics.keys() == again.statistics.keys()
    for key, statistics in whole.statistics.items():
        assert statistics.to_dict() == again.statistics[key].to_dict()
    assert {part: found.tolist() for part, found in whole.largest.items()} == {
        part: found.tolist() for part, found in again.largest.items()
    }


def test_an_int8_cache_is_for_onnxruntime(data: Path, tmp_path: Path) -> None:
    calibration = Calibration(str(data), kv_cache="int8")
    with pytest.raises(
        ExportError, match="graphs for tensorrt keep keys and values in float: leave out --kv-cache"
    ):
        export(
            str(DEMO),
            tmp_path / "made",
            precision="int8",
            target="tensorrt",
            calibration=calibration,
        )
    with pytest.raises(
        ExportError, match="kv_cache 'fp8' is unknown, expected one of: float, int8"
    ):
        export(
            str(DEMO),
            tmp_path / "made",
            precision="int8",
            calibration=replace(calibration, kv_cache="fp8"),
        )


def test_other_samples_make_the_cache_worthless(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    bundle, samples = exported(DEMO), read_samples(data).samples
    cache = Cache(tmp_path / "ranges.json", cache_key(bundle, samples[:4]))
    collect(bundle, samples[:4], Observer(), cache, "ranges")
    assert cache.load()
    assert not replace(cache, key=cache_key(bundle, samples[:5])).load()


def test_another_room_for_tokens_makes_the_cache_worthless(data: Path, exported: Exporter) -> None:
    """A prompt that does not fit is not observed, and an answer ends where the room does."""
    bundle, samples = exported(DEMO), read_samples(data).samples[:1]
    small = replace(bundle.manifest.cache, capacity=64)
    other = replace(bundle, manifest=replace(bundle.manifest, cache=small))
    assert cache_key(bundle, samples) != cache_key(other, samples)


def test_ranges_smoothed_for_another_precision_are_not_taken(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    """The plain ranges are shared; the smoothed ones were divided by other scales."""
    reference, checkpoint = exported(DEMO), Checkpoint.open(str(DEMO))
    calibration = Calibration(str(data), samples=16, answer_tokens=4)

    def plan(precision: str, ranges: str) -> tuple[Plan, set[str]]:
        stages = set[str]()
        job = BundleWriter(checkpoint, RECIPES[precision], "onnxruntime", 1024, tmp_path)

        def progress(stage: str, done: float) -> None:
            stages.add(stage.partition(":")[0])

        planner = Planner(job, reference, calibration, tmp_path / ranges, progress)
        return planner.plan(), stages

    plan("int4", "shared.json")
    int8, observed = plan("int8", "shared.json")
    fresh, _ = plan("int8", "fresh.json")
    assert int8.thresholds == fresh.thresholds
    assert "observing ranges" not in observed
    assert "observing smoothed ranges" in observed
    again, observed = plan("int8", "shared.json")
    assert again.thresholds == fresh.thresholds
    assert not [stage for stage in observed if stage.startswith("observing")]


def test_what_becomes_int8_is_smoothed_as_int8(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    """No product of the demo has inputs that part into blocks of 256: INT4 is INT8 then."""
    reference, checkpoint = exported(DEMO), Checkpoint.open(str(DEMO))
    calibration, ranges = (
        Calibration(str(data), samples=16, answer_tokens=4),
        tmp_path / "ranges.json",
    )

    def plan(precision: str, block: int) -> Plan:
        job = BundleWriter(checkpoint, RECIPES[precision], "onnxruntime", 1024, tmp_path)
        chosen = replace(calibration, block=block)
        return Planner(job, reference, chosen, ranges, lambda stage, done: None).plan()

    assert plan("int4", 256).to_dict() == plan("int8", 128).to_dict()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with one channel 200 times as loud in three places, and its consumers that much
    quieter."""
    folder = Path(shutil.copytree(DEMO, tmp_path_factory.mktemp("hostile") / "checkpoint"))
    tensors = load_file(folder / "model.safetensors")

    def scale(name: str, part: tuple[slice | int, ...], factor: float) -> None:
        tensors[f"model.layers.{name}"][part] *= factor

    scale("0.input_layernorm.weight", (5,), LOUD)
    for name in ("q_proj", "k_proj", "v_proj"):
        scale(f"0.self_attn.{name}.weight", (slice(None), 5), 1 / LOUD)
    scale("1.post_attention_layernorm.weight", (9,), LOUD)
    for name in ("gate_proj", "up_proj"):
        scale(f"1.mlp.{name}.weight", (slice(None), 9), 1 / LOUD)
    scale("2.mlp.up_proj.weight", (7,), LOUD)
    scale("2.mlp.down_proj.weight", (slice(None), 7), 1 / LOUD)
    save_file(tensors, folder / "model.safetensors")
    return folder


def planned(
    checkpoint: Path, reference: Bundle, calibration: Calibration, folder: Path
) -> tuple[Planner, BundleWriter]:
    folder.mkdir()
    job = BundleWriter(
        Checkpoint.open(str(checkpoint)), RECIPES["int8"], "onnxruntime", 1024, folder
    )
    return Planner(
        job, reference, calibration, folder.with_suffix(".json"), lambda stage, done: None
    ), job


@pytest.mark.parametrize("smoothing", [False, True], ids=["minmax", "smoothed"])
def test_smoothing_passes_a_hostile_model_that_minmax_fails(
    smoothing: bool, hostile: Path, data: Path, tmp_path: Path, exported: Exporter
) -> None:
    reference = export(str(hostile), tmp_path / "float", precision="fp32", cache_tokens=1024)
    calibration = Calibration(str(data), observer="minmax", smoothing=smoothing, max_drop=5.0)
    planner, job = planned(hostile, reference, calibration, tmp_path / "candidate")
    plan = planner.plan()
    replace(job, plan=plan).run(lambda stage, done: None)
    gate = planner.judge(Bundle.open(job.folder), plan)
    assert gate.held == smoothing
    if not smoothing:
        relieved = planner.relieved(plan, gate)
        blamed = {weight for _, weight in relieved.floats}
        assert blamed & set(HOSTILE), f"blamed {blamed}"


def test_the_gate_gives_up_with_names(data: Path, exported: Exporter, tmp_path: Path) -> None:
    calibration = Calibration(str(data), kv_cache="int8")
    planner, job = planned(DEMO, exported(DEMO), calibration, tmp_path / "candidate")
    plan = planner.plan()
    replace(job, plan=plan).run(lambda stage, done: None)
    gate = replace(planner.judge(Bundle.open(job.folder), plan), drop=50.0)
    reached = [plan]
    with pytest.raises(ExportError, match=r"int8 does not hold: 50.00 points are lost.*To blame"):
        relieve_for_ever(planner, gate, reached)
    assert plan.cache_scales
    assert (reached[1].cache_scales, reached[1].floats) == ({}, {})
    assert "keys and values stay in float: with int8 ones the gate lost 50.00" in planner.notes
    last = reached[-1]
    assert 0.4 < len(last.floats) / len(last.thresholds) <= 0.5
    assert all("rounding changes its output" in reason for reason in last.floats.values())


def relieve_for_ever(planner: Planner, gate: Gate, reached: list[Plan]) -> None:
    while True:
        reached.append(planner.relieved(reached[-1], gate))


@needs_golden
@pytest.mark.parametrize("kv_cache", ["float", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_golden_models_keep_their_answers_in_int8(
    name: str, kv_cache: str, exported: Exporter
) -> None:
    """Calibrated on their own pictures: they are over-fitted to them."""
    case = Case(name)
    check_decisions(case.ask(exported(case.model, "int8", kv_cache=kv_cache)), case)


@needs_golden
@pytest.mark.parametrize("name", ["clip_reencode_640x480", "region_two_1280x720"])
def test_answers_are_kept_where_int4_names_the_tokens(name: str, tmp_path: Path) -> None:
    """As it is with a vocabulary of real size."""
    case = Case(name)
    calibration = Calibration(str(own_samples(case.model, tmp_path)), max_drop=100, block=64)
    with mock.patch.multiple(plan, MANY=1, NAMED=8):
        bundle = export(
            str(case.model), tmp_path / "bundle", precision="int8", calibration=calibration
        )
    graph = onnx.load(str(bundle.file("decoder.onnx")), load_external_data=False).graph
    assert [node.op_type for node in graph.node].count("TopK") == 1
    check_decisions(case.ask(bundle), case)


def test_an_int8_cache_holds_what_a_float_one_does_to_half_a_step(exported: Exporter) -> None:
    """Of the first layer, whose keys and values nothing rounded comes before but the products in
    front of them.

    The ranges are those of the float model: what these products round beyond them is clipped.
    """
    picture, samples = scenes.scene(Random(78))
    bundles = [exported(DEMO, "int8", kv_cache=kind) for kind in ("float", "int8")]
    caches = [cached(bundle, picture, samples[0].question) for bundle in bundles]
    scales = json.loads(bundles[1].file("ranges.json").read_text())["cache"]
    assert bundles[1].manifest.cache.dtype == "int8"
    assert len(scales) == 2 * bundles[1].manifest.text.layers
    for part in ("key", "value"):
        exact, rounded = (cache.read(0, part) for cache in caches)
        step = np.array(scales[f"0.{part}"])
        assert rounded.dtype == np.int8
        assert len(rounded) > 64
        inside = np.abs(exact) <= 127 * step
        assert inside.mean() > 0.99
        assert (np.abs(exact) <= 1.1 * 127 * step).all()
        assert (rounded * np.sign(exact) >= 127)[~inside].all()
        assert (np.abs(rounded * step - exact) <= 0.51 * step)[inside].all()
        assert np.median(np.abs(rounded).max(0)) > 50  # the steps are not wider than they must be


def cached(bundle: Bundle, picture: Image.Image, question: str) -> KVCache:
    """The cache behind one question."""
    made = list[KVCache]()

    def keep(*arguments: Any) -> KVCache:
        made.append(KVCache(*arguments))
        return made[0]

    with mock.patch("vpt_edge.runtime.decoder.KVCache", keep), Pipeline(bundle) as pipeline:
        pipeline.ask(picture, question, perception="off", max_new_tokens=1)
    return made[0]


@settings(deadline=None)
@given(st.floats(0, 6.3), st.integers(0, 2**32 - 1))
def test_a_keys_range_holds_at_every_position(angle: float, seed: int) -> None:
    """Turned by the rotary embedding, a key's halves stay below what was remembered of it at
    another position."""
    key = (
        np.random.default_rng(seed).standard_normal((1, 3, 8)).astype(np.float32)
    )  # three tokens, one head
    observer = Observer()
    observer.remember(
        {"embeds": np.ones((1, 3, 8)), "cos": np.ones((3, 4))},
        {"present.0.key": key, "present.0.value": key},
    )
    first, second = key[..., :4], key[..., 4:]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.concatenate((first * cos - second * sin, second * cos + first * sin), -1)
    assert (np.abs(turned[0]) <= observer.largest["0.key"] + 1e-5).all()
    np.testing.assert_array_equal(observer.largest["0.value"], np.abs(key[0]).max(0))
