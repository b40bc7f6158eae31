"""Opening a bundle: its files are there, are those that were written, and lie in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import Alter, altered, refused
from onnx import ModelProto, TensorProto

from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import write_manifest
from vpt_edge.runtime.testing import tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle", "seg")


def test_embeddings_are_the_tables_rows(bundle: Bundle) -> None:
    text = bundle.manifest.text
    embeddings = bundle.embeddings()
    assert embeddings.table.shape == (text.vocab_size, text.hidden_size)
    rows = embeddings.rows([7, 3, 7])
    assert (rows.dtype.name, rows[:, 0].tolist()) == ("float32", [7, 3, 7])
    rows[0] = 99
    assert embeddings.rows([7])[0, 0] == 7  # new arrays: features are written over them


def test_rows_of_whole_numbers_have_a_scale_each(bundle: Bundle) -> None:
    vocab = bundle.manifest.text.vocab_size
    hidden = bundle.manifest.text.hidden_size
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


def test_files_are_in_the_folder(bundle: Bundle) -> None:
    assert bundle.file("decoder.onnx") == bundle.path / "decoder.onnx"
    assert bundle.tokenizer_file == bundle.path / "tokenizer.json"
    assert bundle.graph("decoder") is bundle.manifest.graphs["decoder"]


def test_reading_hashes_nothing(bundle: Bundle) -> None:
    """The pipeline hashes beside other work."""
    bundle.file("tokenizer.json").write_bytes(b"more")
    read = Bundle.read(bundle.path)
    assert read == bundle
    assert "tokenizer.json is altered" in refused(lambda: read.check())


@pytest.mark.parametrize("name", ["tokenizer.json", "embeddings.bin", "decoder.onnx"])
def test_a_missing_file_is_named(name: str, bundle: Bundle) -> None:
    bundle.file(name).unlink()
    assert f"{name} is missing" in refused(lambda: Bundle.open(bundle.path))


def test_a_folder_in_a_files_place_is_a_missing_file(bundle: Bundle) -> None:
    bundle.file("decoder.onnx").unlink()
    bundle.file("decoder.onnx").mkdir()
    assert "decoder.onnx is missing" in refused(lambda: Bundle.open(bundle.path))


@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_bit_is_noticed(place: int, bundle: Bundle) -> None:
    data = bytearray(bundle.file("embeddings.bin").read_bytes())
    data[place] ^= 1
    bundle.file("embeddings.bin").write_bytes(data)
    assert "embeddings.bin is altered" in refused(lambda: Bundle.open(bundle.path))


def test_a_longer_and_a_shorter_file_are_noticed(bundle: Bundle) -> None:
    bundle.file("decoder.onnx").write_bytes(b"more")
    bundle.file("embeddings.bin").write_bytes(bundle.file("embeddings.bin").read_bytes()[:-1])
    text = refused(lambda: Bundle.open(bundle.path))
    assert "decoder.onnx is altered" in text
    assert "embeddings.bin is altered" in text


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "folder/secret", "..", ".", ""])
def test_files_lie_in_the_bundle(name: str, bundle: Bundle) -> None:
    (bundle.path.parent / "secret").touch()
    (bundle.path / "folder").mkdir()
    (bundle.path / "folder" / "secret").touch()
    digest = sha256(bundle.path.parent / "secret")
    path = altered(bundle, lambda data: data["files"].update({name: digest}))
    text = refused(lambda: Bundle.open(path))
    assert f"files: a key is {name!r}, expected a plain file name" in text


@pytest.mark.parametrize(
    "alter",
    [
        lambda data: data["files"].pop("decoder.onnx"),
        lambda data: data["files"].pop("tokenizer.json"),
        lambda data: data["files"].pop("embeddings.bin"),
        lambda data: data["graphs"]["decoder"].update(file="secret.onnx"),
        lambda data: data["text"].update(embeddings="secret"),
        lambda data: data["text"].update(embeddings_dtype="int8", embedding_scales="secret"),
    ],
)
def test_what_is_opened_is_listed(alter: Alter, bundle: Bundle) -> None:
    """A file without a hash would be run unseen."""
    bundle.file("secret").touch()
    path = altered(bundle, alter)
    assert "has no hash in the manifest" in refused(lambda: Bundle.open(path))


def point(bundle: Bundle, location: str, offset: int = 0, length: int = 4) -> Path:
    """The bundle's folder, its decoder with a weight that lies outside of its file; every hash is
    right.
    """
    model = ModelProto(ir_version=9)
    tensor = model.graph.node.add().attribute.add().t
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": length}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    bundle.file("decoder.onnx").write_bytes(model.SerializeToString())
    digest = sha256(bundle.file("decoder.onnx"))
    return altered(bundle, lambda data: data["files"].update({"decoder.onnx": digest}))


@pytest.mark.parametrize(
    "location",
    [
        *("/etc/passwd", "../secret", "./embeddings.bin", "plans/../embeddings.bin", "notes.txt"),
        *("", ".", "embeddings.bin\0", "*/_ORT_MEM_ADDR_/*", "file:///etc/passwd", "manifest.json"),
    ],
)
def test_weights_lie_in_listed_files(location: str, bundle: Bundle) -> None:
    """Or a graph could read any file of the machine."""
    bundle.file("notes.txt").write_text("mine")
    (bundle.path.parent / "secret").write_text("secret")
    path = point(bundle, location)
    for text in (refused(lambda: Bundle.read(path)), refused(lambda: Bundle.open(path))):
        assert "decoder.onnx takes weights from" in text
        assert "which is not one of its files" in text


def test_weights_lie_within_their_file(bundle: Bundle) -> None:
    size = bundle.file("embeddings.bin").stat().st_size
    assert Bundle.open(point(bundle, "embeddings.bin", size - 4, 4))
    text = refused(lambda: Bundle.read(point(bundle, "embeddings.bin", size - 4, 5)))
    assert f"embeddings.bin has {size} bytes, decoder.onnx takes weights up to {size + 1}" in text


def test_a_graph_that_is_cut_off_is_altered(bundle: Bundle) -> None:
    path = point(bundle, "embeddings.bin")
    data = bundle.file("decoder.onnx").read_bytes()
    bundle.file("decoder.onnx").write_bytes(data[:-1])
    assert "decoder.onnx is altered (its sha256 differs)" in refused(lambda: Bundle.read(path))
    digest = sha256(bundle.file("decoder.onnx"))
    path = altered(bundle, lambda data: data["files"].update({"decoder.onnx": digest}))
    assert "decoder.onnx is not a well-formed ONNX file" in refused(lambda: Bundle.read(path))


@pytest.mark.parametrize("name", ["embeddings.bin", "scales.bin"])
def test_tables_have_the_size_that_the_manifest_says(name: str, bundle: Bundle) -> None:
    text = bundle.manifest.text
    np.zeros((text.vocab_size, text.hidden_size), np.int8).tofile(bundle.file("embeddings.bin"))
    np.ones(text.vocab_size, np.float32).tofile(bundle.file("scales.bin"))
    with bundle.file(name).open("ab") as file:
        file.write(b"\0")

    def alter(data: dict[str, Any]) -> None:
        data["text"].update(embeddings_dtype="int8", embedding_scales="scales.bin")
        for each in ("embeddings.bin", "scales.bin"):
            data["files"][each] = sha256(bundle.file(each))

    path = altered(bundle, alter)
    size = bundle.file(name).stat().st_size
    assert f"{name} has {size} bytes, expected {size - 1}" in refused(lambda: Bundle.read(path))


def test_a_file_that_cannot_be_read_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vpt_edge.runtime.bundle.sha256", fail)
    assert "embeddings.bin cannot be read (Permission denied)" in refused(bundle.check)


def test_an_id_beyond_the_table_is_the_tokenizers_fault(bundle: Bundle) -> None:
    size = bundle.manifest.text.vocab_size
    text = refused(lambda: bundle.embeddings().rows([0, size]))
    assert f"the id {size}, the embedding table has {size} rows" in text


def test_other_files_in_the_folder_do_not_matter(bundle: Bundle) -> None:
    bundle.file("notes.txt").write_text("mine", "utf-8")
    bundle.file("plans").mkdir()
    assert Bundle.open(bundle.path) == bundle


@pytest.mark.parametrize("block", ["model", "perception"])
@pytest.mark.parametrize("name", ["other", "", None, 3, ["vpt"], {}])
def test_an_unknown_model_or_perception_is_refused(block: str, name: Any, bundle: Bundle) -> None:
    path = altered(bundle, lambda data: data[block].update(name=name))
    assert f"{block} {name!r} is unknown, expected one of: " in refused(lambda: Bundle.read(path))


@pytest.mark.parametrize("block", ["model", "perception"])
def test_a_block_without_a_name_is_refused(block: str, bundle: Bundle) -> None:
    path = altered(bundle, lambda data: data[block].pop("name"))
    assert f"{block} None is unknown, expected one of: " in refused(lambda: Bundle.read(path))


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (lambda data: data["model"].update(depth=3), "model has other keys.*: unknown depth"),
        (lambda data: data["model"].pop("head_dim"), "model has other keys.*: missing head_dim"),
        (lambda data: data["perception"].update(k=8), "perception has other keys.*: unknown k"),
        (lambda data: data["perception"].pop("kind"), "perception has other keys.*: missing kind"),
        (lambda data: data["perception"].pop("action"), "perception has .*: missing action"),
        (lambda data: data["model"].update(head_dim="8"), "model: head_dim is '8', expected"),
        (lambda data: data["perception"].update(kind=3), "perception: kind is 3, expected"),
        (lambda data: data["perception"].update(kind=None), "perception: kind is None, expected"),
        (
            lambda data: data["perception"].update(prompt_triggered=1),
            "perception: prompt_triggered is 1, expected",
        ),
        (
            lambda data: data["perception"].update(triggers=["7"]),
            "perception: triggers is '7', expected",
        ),
        (
            lambda data: data["perception"].update(kind="video"),
            "perception: kind is 'video', expected one of: clip, detection, seg",
        ),
    ],
)
def test_a_block_is_held_against_what_it_names(alter: Alter, found: str, bundle: Bundle) -> None:
    path = altered(bundle, alter)
    assert re.search(f"^manifest.json: {found}", refused(lambda: Bundle.read(path)))


@pytest.mark.parametrize("place", [None, 5, b"bundle", [], "x" * 6000, "a\0b"])
def test_what_is_no_place_of_a_bundle_is_refused(place: Any) -> None:
    for open_it in (Bundle.open, Pipeline):
        with pytest.raises(BundleError, match=r"is not a bundle|cannot be read") as error:
            open_it(place)
        assert len(str(error.value)) < 500
