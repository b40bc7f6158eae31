"""Reading and writing a bundle's manifest, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vpt_edge.runtime import Bundle
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import SCHEMA_VERSION, Graph, Parity, Tensor, write_manifest
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest

Alter = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle", "seg")


def refused(path: Path) -> str:
    """The text with which a bundle is refused; it is one line that names a command."""
    with pytest.raises(BundleError) as error:
        Bundle.open(path)
    text = str(error.value)
    assert "\n" not in text
    assert "vpt-export CHECKPOINT -o" in text
    return text


def altered(bundle: Bundle, alter: Alter) -> Path:
    """The bundle with ``alter`` applied to its manifest."""
    file = bundle.file("manifest.json")
    data = json.loads(file.read_text("utf-8"))
    alter(data)
    file.write_text(json.dumps(data), "utf-8")
    return bundle.path


def full(manifest: Manifest) -> Manifest:
    """``manifest`` with something in every field."""
    tensor = Tensor("patches", "float32", (1, "patches", 1176))
    graph = Graph("vision_encoder.onnx", (tensor, tensor), (tensor,), {"patches": (4, 1024, 16384)})
    graphs = {**manifest.graphs, "vision_encoder": graph}
    return replace(
        manifest, graphs=graphs, parity=(Parity("decoder", "7 tokens", "logits", 1e-7, 2e-5),)
    )


@pytest.mark.parametrize("kind", ["clip", "detection", "seg"])
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, kind)
    for manifest in (bundle.manifest, full(bundle.manifest)):
        write_manifest(manifest, tmp_path)
        assert Bundle.open(str(tmp_path)) == Bundle(tmp_path, manifest)


def test_a_checkpoint_without_triggers_has_no_ids_for_them(bundle: Bundle) -> None:
    tokens = replace(
        bundle.manifest.tokens, action_start=None, action=None, reencode_pad=None, triggers=()
    )
    write_manifest(replace(bundle.manifest, tokens=tokens), bundle.path)
    assert Bundle.open(bundle.path).manifest.tokens == tokens


def test_a_whole_number_may_stand_for_a_fraction(bundle: Bundle) -> None:
    path = altered(bundle, lambda data: data["text"].update(rope_theta=1000000))
    assert Bundle.open(path).manifest.text.rope_theta == 1000000


def test_embeddings_are_the_tables_rows(bundle: Bundle) -> None:
    text, embeddings = bundle.manifest.text, bundle.embeddings()
    assert embeddings.table.shape == (text.vocab_size, text.hidden_size)
    rows = embeddings.rows([7, 3, 7])
    assert (rows.dtype.name, rows[:, 0].tolist()) == ("float32", [7, 3, 7])
    rows[0] = 99
    assert embeddings.rows([7])[0, 0] == 7  # new arrays: features are written over them


def test_rows_of_whole_numbers_have_a_scale_each(bundle: Bundle) -> None:
    vocab, hidden = bundle.manifest.text.vocab_size, bundle.manifest.text.hidden_size
    table = np.arange(vocab * hidden).astype(np.int8).reshape(vocab, hidden)
    table.tofile(bundle.file("embeddings.bin"))
    scales = np.linspace(0.5, 2, vocab, dtype=np.float32)
    scales.tofile(bundle.file("scales.bin"))
    text = replace(bundle.manifest.text, embeddings_dtype="int8", embedding_scales="scales.bin")
    files = {name: sha256(bundle.file(name)) for name in (*bundle.manifest.files, "scales.bin")}
    write_manifest(replace(bundle.manifest, text=text, files=files), bundle.path)
    rows = Bundle.open(bundle.path).embeddings().rows(np.array([5, 250]))
    assert rows.dtype.name == "float32"
    np.testing.assert_array_equal(rows, table[[5, 250]] * scales[[5, 250], None])


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "there is no such folder" in refused(tmp_path / "missing")
    (tmp_path / "file").touch()
    refused(tmp_path / "file")
    assert "the folder has no manifest.json" in refused(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
def test_a_manifest_that_is_no_json_is_refused(data: bytes, bundle: Bundle) -> None:
    bundle.file("manifest.json").write_bytes(data)
    assert "no JSON" in refused(bundle.path)


@pytest.mark.parametrize(
    "version", [0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, str(SCHEMA_VERSION), None, [1]]
)
def test_another_version_is_refused(version: Any, bundle: Bundle) -> None:
    path = altered(bundle, lambda data: data.update(schema_version=version))
    assert f"has schema version {version}, this vpt-edge reads version {SCHEMA_VERSION}" in refused(
        path
    )


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"', "{}"])
def test_a_manifest_of_another_sort_is_refused(text: str, bundle: Bundle) -> None:
    bundle.file("manifest.json").write_text(text, "utf-8")
    assert "schema version None" in refused(bundle.path)


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
        (lambda data: data.pop("kind"), "missing kind"),
        (lambda data: data["cache"].pop("layout"), "missing layout"),
        (lambda data: data["tokens"].pop("action"), "missing action"),
        (lambda data: (data.pop("kind"), data.update(sort="clip")), "unknown sort; missing kind"),
    ],
)
def test_other_keys_are_refused(alter: Alter, found: str, bundle: Bundle) -> None:
    assert found in refused(altered(bundle, alter))


@pytest.mark.parametrize(
    ("alter", "where"),
    [
        (lambda data: data.update(kind=3), "kind"),
        (lambda data: data.update(kind=None), "kind"),
        (lambda data: data.update(prompt_triggered=1), "prompt_triggered"),
        (lambda data: data.update(image=True), "image"),
        (lambda data: data.update(schema_version=float(SCHEMA_VERSION)), "schema_version"),
        (lambda data: data["tokens"].update(image_pad="268"), "tokens: image_pad"),
        (lambda data: data["tokens"].update(image_pad=268.0), "tokens: image_pad"),
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
        (lambda data: data["files"].update({"decoder.onnx": None}), "files.decoder.onnx"),
    ],
)
def test_other_types_are_refused(alter: Alter, where: str, bundle: Bundle) -> None:
    assert f"{where} is " in refused(altered(bundle, alter))


@pytest.mark.parametrize("name", ["tokenizer.json", "embeddings.bin", "decoder.onnx"])
def test_a_missing_file_is_named(name: str, bundle: Bundle) -> None:
    bundle.file(name).unlink()
    assert f"{name} is missing" in refused(bundle.path)


def test_a_folder_in_a_files_place_is_a_missing_file(bundle: Bundle) -> None:
    bundle.file("decoder.onnx").unlink()
    bundle.file("decoder.onnx").mkdir()
    assert "decoder.onnx is missing" in refused(bundle.path)


@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_bit_is_noticed(place: int, bundle: Bundle) -> None:
    data = bytearray(bundle.file("embeddings.bin").read_bytes())
    data[place] ^= 1
    bundle.file("embeddings.bin").write_bytes(data)
    assert "embeddings.bin is altered" in refused(bundle.path)


def test_a_longer_and_a_shorter_file_are_noticed(bundle: Bundle) -> None:
    bundle.file("decoder.onnx").write_bytes(b"more")
    bundle.file("embeddings.bin").write_bytes(bundle.file("embeddings.bin").read_bytes()[:-1])
    text = refused(bundle.path)
    assert "decoder.onnx is altered" in text
    assert "embeddings.bin is altered" in text


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "folder/secret", "..", ".", ""])
def test_files_lie_in_the_bundle(name: str, bundle: Bundle) -> None:
    (bundle.path.parent / "secret").touch()
    (bundle.path / "folder").mkdir()
    (bundle.path / "folder" / "secret").touch()
    digest = sha256(bundle.path.parent / "secret")
    text = refused(altered(bundle, lambda data: data["files"].update({name: digest})))
    assert "points out of the bundle" in text or "is missing" in text


@pytest.mark.parametrize(
    "alter",
    [
        lambda data: data["files"].pop("decoder.onnx"),
        lambda data: data["files"].pop("tokenizer.json"),
        lambda data: data["files"].pop("embeddings.bin"),
        lambda data: data["graphs"]["decoder"].update(file="../secret"),
        lambda data: data["text"].update(embeddings="../secret"),
    ],
)
def test_what_is_opened_is_listed(alter: Alter, bundle: Bundle) -> None:
    """A file without a hash would be run unseen."""
    (bundle.path.parent / "secret").touch()
    refused(altered(bundle, alter))


def test_other_files_in_the_folder_do_not_matter(bundle: Bundle) -> None:
    bundle.file("notes.txt").write_text("mine", "utf-8")
    bundle.file("plans").mkdir()
    assert Bundle.open(bundle.path) == bundle
