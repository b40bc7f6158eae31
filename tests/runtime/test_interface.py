"""What a manifest says in two places is said twice in the same way, and within bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests import Alter, altered, refused

from vpt_edge.runtime import Bundle
from vpt_edge.runtime.errors import BundleError, VptError
from vpt_edge.runtime.manifest import write_sealed
from vpt_edge.runtime.testing import tiny_bundle

HUGE = 10**9


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("whole"), "seg")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle", "seg")


def graph(data: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = data["graphs"][name]
    return found


RANGES: list[tuple[Alter, str]] = [
    (lambda data: data["image"].update(max_pixels=0), "image: max_pixels is 0, expected a number"),
    (lambda data: data["image"].update(min_pixels=-1), "image: min_pixels is -1, expected"),
    (lambda data: data["image"].update(longest_side=0), "image: longest_side is 0, expected"),
    (lambda data: data["image"].update(longest_side=1 << 40), "image: longest_side is 1099511"),
    (lambda data: data["text"].update(layers=0), "text: layers is 0, expected"),
    (lambda data: data["text"].update(layers=HUGE), "text: layers is 1000000000, expected"),
    (lambda data: data["text"].update(head_dim=-6), "text: head_dim is -6, expected"),
    (lambda data: data["text"].update(rope_theta=0.0), "text: rope_theta is 0.0, expected"),
    (lambda data: data["text"].update(rope_theta=math.nan), "text: rope_theta is nan, expected"),
    (lambda data: data["text"].update(rope_theta=math.inf), "text: rope_theta is inf, expected"),
    (lambda data: data["text"].update(rope_theta=10**400), "text: rope_theta is 1000.*expected"),
    (lambda data: data["text"].update(mrope_section=[-1, 2, 2]), "mrope_section is -1, expected"),
    (lambda data: data["text"].update(embeddings_dtype="float64"), "'float64', expected one of"),
    (lambda data: data["cache"].update(capacity=0), "cache: capacity is 0, expected"),
    (lambda data: data["cache"].update(capacity=1 << 40), "cache: capacity is 1099511"),
    (lambda data: data["cache"].update(layout="paged"), "cache: layout is 'paged', expected one"),
    (lambda data: data["cache"].update(dtype="object"), "cache: dtype is 'object', expected one"),
    (lambda data: data.update(precision="fp64"), "precision is 'fp64', expected one of: fp32"),
    (lambda data: data.update(target="openvino"), "target is 'openvino', expected one of"),
    (lambda data: data["tokens"].update(image_pad=-1), "tokens: image_pad is -1, expected"),
    (lambda data: data["model"].update(head_dim=0), "model: head_dim is 0, expected"),
    (lambda data: data["perception"].update(longest_side=0), "longest_side is 0, expected"),
    (lambda data: data["perception"].update(action=-1), "perception: action is -1, expected"),
    (lambda data: data["files"].update({"decoder.onnx": "ab"}), "is 'ab', expected a sha256"),
    (lambda data: data["graphs"].update({"../up": data["graphs"]["decoder"]}), "expected a name"),
    (lambda data: graph(data, "decoder").update(file="decoder.ort"), "that ends in .onnx"),
    (lambda data: graph(data, "decoder")["bounds"].update({"x": [0, -1, 2]}), "bounds.x is -1"),
    (lambda data: graph(data, "decoder")["inputs"][0].update(dtype="str"), "dtype is 'str'"),
    (lambda data: graph(data, "decoder")["inputs"][0].update(shape=[0]), "shape is 0, expected"),
]


@pytest.mark.parametrize(("alter", "problem"), RANGES)
def test_a_value_out_of_range_is_refused(alter: Alter, problem: str, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=problem):
        Bundle.read(altered(bundle, alter))


def rename_input(data: dict[str, Any]) -> None:
    graph(data, "decoder")["inputs"][0]["name"] = "embeddings"


def repeat_input(data: dict[str, Any]) -> None:
    graph(data, "decoder")["inputs"].append(graph(data, "decoder")["inputs"][0])


AGREEMENTS: list[tuple[Alter, str]] = [
    (lambda data: data["image"].update(max_pixels=700, min_pixels=1), "expected at least 784"),
    (lambda data: data["image"].update(min_pixels=5000, max_pixels=4000), "leave no size"),
    (lambda data: data["text"].update(layers=2), "layers is 2, the decoder has 2 inputs"),
    (lambda data: data["text"].update(layers=1 << 24), "layers is 16777216, the decoder has 2"),
    (lambda data: data["text"].update(hidden_size=5), r"embeds is float32 \(1, 'sequence', 4\)"),
    (lambda data: data["text"].update(kv_heads=2), r"past.0.key is float32 \(1, 1, 'capacity'"),
    (lambda data: data["text"].update(head_dim=7), "head_dim is 7, expected an even one"),
    (lambda data: data["text"].update(head_dim=8), r"section is \(1, 1, 1\), expected a sum of 4"),
    (lambda data: data["text"].update(mrope_section=[1, 1, 2]), "expected a sum of 3"),
    (lambda data: data["text"].update(vocab_size=300), r"expected float32 \('last', 300\)"),
    (lambda data: data["text"].update(vocab_size=HUGE // 100), "logits is float32"),
    (lambda data: data["text"].update(embeddings_dtype="int8"), "int8 with scales: False"),
    (lambda data: data["text"].update(embeddings_dtype="float16"), "bytes, expected"),
    (lambda data: data["text"].update(embedding_scales="embeddings.bin"), "with scales: True"),
    (lambda data: data["cache"].update(capacity=4096), "capacity is 4096, the decoder takes"),
    (lambda data: data["cache"].update(capacity=100), "the cache takes 100"),
    (lambda data: data["cache"].update(dtype="float16"), "expected float16"),
    (lambda data: data["cache"].update(layout="appended"), "expected shared for onnxruntime"),
    (lambda data: data.update(target="tensorrt"), "expected appended for tensorrt"),
    (lambda data: data["tokens"].update(image_pad=100_000), r"tokens: the ids \[100000\] are not"),
    (lambda data: data["tokens"].update(end=[]), "tokens: end is empty"),
    (lambda data: data["tokens"].update(end=[7, 99_999]), r"tokens: the ids \[99999\] are not"),
    (lambda data: data["perception"].update(triggers=[5000]), r"perception: the ids \[5000\] are"),
    (lambda data: data["perception"].update(action=5000), r"perception: the ids \[5000\] are"),
    (lambda data: data["model"].update(head_dim=6), "head_dim is 6, expected a multiple of 4"),
    (lambda data: data["model"].update(head_dim=16), r"cos is float32 \('patches', 4\), expected"),
    (lambda data: data["graphs"].pop("decoder"), "graphs: there is no decoder"),
    (lambda data: data["graphs"].pop("vision_encoder"), "graphs: there is no vision_encoder"),
    (lambda data: data["graphs"].pop("reencoder_features"), "there is no reencoder_features"),
    (lambda data: data["graphs"].pop("reencoder_projector"), "there is no reencoder_projector"),
    (lambda data: graph(data, "reencoder_features").update(outputs=[]), "the one input pixels"),
    (lambda data: graph(data, "decoder")["inputs"].pop(0), "inputs: embeds missing"),
    (rename_input, "inputs: embeds missing"),
    (repeat_input, "inputs: a name stands there twice"),
    (lambda data: graph(data, "decoder")["outputs"].pop(0), "outputs: logits missing"),
    (lambda data: graph(data, "decoder")["bounds"].pop("sequence"), "no bounds of sequence"),
    (
        lambda data: graph(data, "decoder")["bounds"].update(sequence=[9, 8, 7]),
        "bounds.sequence are not in order: 9, 8, 7",
    ),
    (
        lambda data: graph(data, "decoder")["bounds"].update(sequence=[1, 8, HUGE]),
        "a sequence of 1000000000 tokens, the cache takes 2048",
    ),
]


@pytest.mark.parametrize(("alter", "problem"), AGREEMENTS)
def test_a_contradiction_is_refused(alter: Alter, problem: str, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=problem):
        Bundle.read(altered(bundle, alter))


@pytest.mark.parametrize("depth", [90, 500, 900, 5000, 100_000])
@pytest.mark.parametrize("key", ["source", "gate", "model", "graphs", "files", "anything"])
def test_deep_json_is_refused(key: str, depth: int, bundle: Bundle) -> None:
    data = json.loads(bundle.file("manifest.json").read_text("utf-8"))
    data[key] = 0
    text = json.dumps(data).replace(f'"{key}": 0', f'"{key}": {"[" * depth}{"]" * depth}')
    bundle.file("manifest.json").write_text(text, "utf-8")
    assert len(refused(lambda: Bundle.read(bundle.path))) < 500


def set_precision(bundle: Bundle, value: Any) -> None:
    altered(bundle, lambda data: data.update(precision=value))


def test_an_error_does_not_repeat_a_long_value(bundle: Bundle) -> None:
    for value in ("x" * 100_000, ["y" * 9000] * 9, {"z" * 5000: "\x1b[2J"}, 10**4000):
        set_precision(bundle, value)
        text = refused(lambda: Bundle.read(bundle.path))
        assert len(text) < 400
        assert "\x1b" not in text
    path = altered(bundle, lambda data: data.update({"k\x1b[2J\n" * 1000: 1}))
    text = refused(lambda: Bundle.read(path))
    assert len(text) < 400
    assert "\x1b" not in text


# Any manifest near to a good one

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.sampled_from([HUGE, -HUGE, 10**30, 10**400, 1 << 24, 1 << 31, 784, 783]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["decoder.onnx", "../x", "/etc/passwd", "float16", "int8", "appended", "\0"]),
    st.lists(st.integers(-1, 3), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in ``value``."""
    found = list[tuple[Any, Any]]()
    waiting = [value]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(draws=st.data())
def test_any_manifest_near_to_a_good_one_opens_or_is_refused(
    whole: Bundle, draws: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = json.loads(whole.file("manifest.json").read_text("utf-8"))
    data.pop("sha256")
    for _ in range(draws.draw(st.integers(1, 3))):
        found = places(data)
        container, key = found[draws.draw(st.integers(0, len(found) - 1))]
        action = draws.draw(st.sampled_from(["replace", "replace", "remove", "double"]))
        if action == "replace":
            container[key] = draws.draw(VALUES)
        elif action == "remove":
            del container[key]
        elif isinstance(container, list):
            container.append(container[key])
        else:
            container[f"{key}2"] = container[key]
    folder = tmp_path_factory.getbasetemp() / "mutated"
    if not folder.exists():
        folder.mkdir()
        for name in whole.manifest.files:
            (folder / name).hardlink_to(whole.file(name))
    write_sealed(data, folder)
    text = ""
    try:
        Bundle.read(folder)
    except VptError as error:
        text = str(error)
    assert len(text) < 1500
