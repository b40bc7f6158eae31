"""A manifest is read as it was written, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from manifests import Alter, altered, refused

from vpt_edge.runtime import Bundle
from vpt_edge.runtime.manifest import (
    SCHEMA_VERSION,
    Budget,
    Gate,
    Parity,
    read_manifest,
    write_manifest,
)
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle", "seg")


def refusal(path: Path) -> str:
    return refused(lambda: Bundle.open(path))


def full(manifest: Manifest) -> Manifest:
    """``manifest`` with something in every field."""
    gate = Gate(
        samples=60,
        labelled=48,
        accuracy=0.9,
        float_accuracy=0.95,
        answers_equal=0.98,
        triggers_equal=1.0,
        cells_equal=0.97,
        cells_iou=0.99,
        first_token_kl=None,
        drop=5.0,
        allowed=1.0,
        held=False,
        speed={"decode": 1.5},
        floats={"decoder/lm_head": "the logits"},
        notes=("a few samples",),
    )
    return replace(
        manifest,
        parity=(Parity("decoder", "7 tokens", "logits", 1e-7, 2e-5),),
        gate=gate,
        budget=Budget(200_704, 401_408, 0.5, 8),
    )


@pytest.mark.parametrize("kind", ["clip", "detection", "seg"])
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, kind)
    for manifest in (bundle.manifest, full(bundle.manifest)):
        write_manifest(manifest, tmp_path)
        assert read_manifest(tmp_path) == manifest
        assert Bundle.open(str(tmp_path)) == Bundle(tmp_path, manifest)


def test_a_checkpoint_without_triggers_has_no_ids_for_them(bundle: Bundle) -> None:
    perception = {
        **bundle.manifest.perception,
        "action_start": None,
        "action": None,
        "reencode_pad": None,
        "triggers": [],
    }
    write_manifest(replace(bundle.manifest, perception=perception), bundle.path)
    manifest = Bundle.open(bundle.path).manifest
    assert manifest.perception == perception
    way = open_perception(manifest)
    assert (way.can_look, way.action, way.hidden_ids) == (False, None, frozenset())


@pytest.mark.parametrize("kind", ["clip", "detection", "seg"])
def test_a_bundles_kind_is_that_of_its_perception(kind: str, tmp_path: Path) -> None:
    manifest = tiny_bundle(tmp_path, kind).manifest
    assert manifest.kind == kind
    assert replace(manifest, perception={"name": "zoom"}).kind == "zoom"


def test_a_whole_number_may_stand_for_a_fraction(bundle: Bundle) -> None:
    path = altered(bundle, lambda data: data["text"].update(rope_theta=1000000))
    assert Bundle.open(path).manifest.text.rope_theta == 1000000


def test_a_budget_says_what_is_set_alone(bundle: Bundle) -> None:
    """What it does not say a bundle of before has no key for, and is read as before."""
    assert "budget" not in written(bundle)
    assert bundle.manifest.budget == Budget()
    budget = Budget(first_max_pixels=50_176, draft_tokens=0)
    write_manifest(replace(bundle.manifest, budget=budget), bundle.path)
    assert written(bundle)["budget"] == {"first_max_pixels": 50_176, "draft_tokens": 0}
    assert Bundle.open(bundle.path).manifest.budget == budget


def written(bundle: Bundle) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(bundle.file("manifest.json").read_text("utf-8"))
    return data


def test_a_changed_digit_is_noticed(bundle: Bundle) -> None:
    """It would change every answer in silence."""
    data = written(bundle)
    data["text"]["rope_theta"] = 10001.0
    bundle.file("manifest.json").write_text(json.dumps(data))
    assert "manifest.json is altered: its own sha256 differs" in refusal(bundle.path)


@pytest.mark.parametrize("seal", [None, "", 3, "0" * 64, ["0"], {"a": 1}])
def test_another_seal_is_refused(seal: Any, bundle: Bundle) -> None:
    bundle.file("manifest.json").write_text(json.dumps({**written(bundle), "sha256": seal}))
    assert "its own sha256 differs" in refusal(bundle.path)


def test_a_missing_seal_is_refused(bundle: Bundle) -> None:
    data = written(bundle)
    data.pop("sha256")
    bundle.file("manifest.json").write_text(json.dumps(data))
    assert "manifest.json lacks its own sha256" in refusal(bundle.path)


def test_layout_and_order_are_not_sealed(bundle: Bundle) -> None:
    """Another program may have written the same content."""
    data = dict(reversed(written(bundle).items()))
    bundle.file("manifest.json").write_text(json.dumps(data, indent=7))
    assert Bundle.open(bundle.path) == bundle


def test_a_manifest_of_many_megabytes_is_refused(bundle: Bundle) -> None:
    with bundle.file("manifest.json").open("ab") as file:
        file.truncate(1 << 30)
    assert "manifest.json has more than 64 MiB" in refusal(bundle.path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "is not a bundle: there is no such folder" in refusal(tmp_path / "missing")
    (tmp_path / "file").touch()
    assert "is not a bundle" in refusal(tmp_path / "file")
    assert "is not a bundle: the folder has no manifest.json" in refusal(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
def test_a_manifest_that_is_not_json_is_refused(data: bytes, bundle: Bundle) -> None:
    bundle.file("manifest.json").write_bytes(data)
    assert "manifest.json is not JSON" in refusal(bundle.path)


@pytest.mark.parametrize(
    "version", [0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, str(SCHEMA_VERSION), None, [1]]
)
def test_another_version_is_refused(version: Any, bundle: Bundle) -> None:
    path = altered(bundle, lambda data: data.update(schema_version=version))
    expected = f"has schema version {version}, this vpt-edge reads version {SCHEMA_VERSION}"
    assert expected in refusal(path)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"'])
def test_a_manifest_of_another_sort_is_refused(text: str, bundle: Bundle) -> None:
    bundle.file("manifest.json").write_text(text, "utf-8")
    assert "expected an object" in refusal(bundle.path)
    bundle.file("manifest.json").write_text("{}", "utf-8")
    assert "schema version None" in refusal(bundle.path)


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (
            lambda data: data.update(colour="red"),
            "manifest.json has other keys than expected: unknown colour",
        ),
        (
            lambda data: data["text"].update(depth=3),
            "manifest.json: text has other keys than expected: unknown depth",
        ),
        (lambda data: data["graphs"]["decoder"].update(opset=19), "graphs.decoder has other keys"),
        (lambda data: data.pop("source"), "missing source"),
        (lambda data: data.pop("model"), "missing model"),
        (lambda data: data.pop("perception"), "missing perception"),
        (lambda data: data.update(budget={"pixels": 3}), "budget has other keys than expected"),
        (lambda data: data["cache"].pop("layout"), "missing layout"),
        (lambda data: data["tokens"].pop("end"), "missing end"),
        (
            lambda data: (data.pop("source"), data.update(sort="clip")),
            "unknown sort; missing source",
        ),
        (lambda data: data.update(kind="seg"), "unknown kind"),  # of schema version 2
    ],
)
def test_other_keys_are_refused(alter: Alter, found: str, bundle: Bundle) -> None:
    assert found in refusal(altered(bundle, alter))


@pytest.mark.parametrize(
    ("alter", "where"),
    [
        (lambda data: data.update(source=3), "source"),
        (lambda data: data.update(source=None), "source"),
        (lambda data: data.update(model="qwen2_vl"), "model"),
        (lambda data: data.update(model=[]), "model"),
        (lambda data: data.update(perception=None), "perception"),
        (lambda data: data.update(image=True), "image"),
        (lambda data: data.update(schema_version=float(SCHEMA_VERSION)), "schema_version"),
        (lambda data: data["tokens"].update(image_pad="268"), "tokens: image_pad"),
        (lambda data: data["tokens"].update(image_pad=268.0), "tokens: image_pad"),
        (lambda data: data["tokens"].update(image_pad=True), "tokens: image_pad"),
        (lambda data: data["tokens"].update(end=7), "tokens: end"),
        (lambda data: data["tokens"].update(end=["7"]), "tokens: end"),
        (lambda data: data["text"].update(mrope_section=[1, 1]), "text: mrope_section"),
        (lambda data: data["text"].update(rope_theta="1e6"), "text: rope_theta"),
        (lambda data: data.update(text=None), "text"),
        (lambda data: data.update(text=[]), "text"),
        (lambda data: data.update(graphs=[]), "graphs"),
        (lambda data: data["graphs"].update(decoder="decoder.onnx"), "graphs.decoder"),
        (lambda data: data["graphs"]["decoder"].update(bounds={"past": [0, 1]}), "bounds.past"),
        (lambda data: data["graphs"]["decoder"].update(inputs={}), "inputs"),
        (lambda data: data.update(parity=[1]), "parity"),
        (lambda data: data.update(gate=[]), "gate"),
        (lambda data: data.update(budget=None), "budget"),
        (lambda data: data.update(budget={"look_max_pixels": 0}), "budget: look_max_pixels"),
        (lambda data: data.update(budget={"first_max_pixels": 1.5}), "budget: first_max_pixels"),
        (lambda data: data.update(budget={"first_token_share": 0}), "budget: first_token_share"),
        (lambda data: data.update(budget={"first_token_share": 1.1}), "budget: first_token_share"),
        (lambda data: data.update(budget={"draft_tokens": -1}), "budget: draft_tokens"),
        (lambda data: data["files"].update({"decoder.onnx": None}), "files.decoder.onnx"),
    ],
)
def test_other_types_are_refused(alter: Alter, where: str, bundle: Bundle) -> None:
    assert f"{where} is " in refusal(altered(bundle, alter))
