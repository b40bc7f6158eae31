"""ONNX Runtime on the CPU: what its sessions share.

What all backends have in common is in test_session.py.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from golden import TAGS, Exporter

from vpt_edge.calibration.cpu_session import open_cpu_session
from vpt_edge.device.doctor import check_bundle
from vpt_edge.runtime import Bundle, host
from vpt_edge.runtime.errors import BundleError, SessionError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import Graph, Tensor
from vpt_edge.runtime.sessions import ort


@pytest.fixture(autouse=True)
def unregistered() -> Iterator[None]:
    ort._register_arena.cache_clear()
    yield
    ort._register_arena.cache_clear()


def test_sessions_take_their_memory_from_one_arena(exported: Exporter) -> None:
    session = ort.OrtSession(exported(TAGS), "reencoder_projector")
    options = session._session.get_session_options()
    assert options.get_session_config_entry("session.use_env_allocators") == "1"
    session.close()


@pytest.mark.parametrize(
    ("usable", "threads"), [(1, 1), (3, 3), (8, 0), (16, 0)]
)  # 0: ONNX Runtime's own choice
def test_a_session_starts_no_more_threads_than_it_has_cores(
    usable: int, threads: int, exported: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(host, "usable_cores", lambda: usable)
    session = ort.OrtSession(exported(TAGS), "reencoder_projector")
    assert session._session.get_session_options().intra_op_num_threads == threads
    session.close()


def test_threads_register_the_arena_once(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []

    def register(*arguments: Any) -> None:
        registered.append(arguments)
        time.sleep(0.05)

    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", register)
    threads = [threading.Thread(target=ort._share_arena) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registered) == 1


def test_an_arena_that_the_program_has_registered_will_do(
    exported: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("An allocator for this device has already been registered for sharing")

    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", refuse)
    ort.OrtSession(exported(TAGS), "reencoder_projector").close()


def scatter(bundle: Bundle, folder: Path) -> Bundle:
    """``bundle`` as DVC lays it: each file a symlink into a folder of its own."""
    (folder / "linked").mkdir()
    for file in (*bundle.manifest.files, "manifest.json"):
        place = folder / "store" / sha256(bundle.file(file))[:8]
        place.mkdir(parents=True)
        shutil.copyfile(bundle.file(file), place / file)
        (folder / "linked" / file).symlink_to(place / file)
    return Bundle.open(folder / "linked")


def test_a_bundle_of_symlinks_into_several_folders_opens_or_says_why(
    exported: Exporter, tmp_path: Path
) -> None:
    bundle = scatter(exported(TAGS), tmp_path)
    assert bundle.is_scattered
    try:
        ort.OrtSession(bundle, "vision_encoder").close()
        text = ""
    except SessionError as error:
        text = str(error)
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if version >= (1, 24):
        assert "its files are symlinks into several folders" in text
        assert f"cp -rL {bundle.path} COPY" in text
    else:
        assert text == ""


def test_a_bundle_of_symlinks_into_one_folder_opens(exported: Exporter, tmp_path: Path) -> None:
    """As the Hub's cache lays it: files have their hashes as names, beside each other."""
    bundle = exported(TAGS)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for file in (*bundle.manifest.files, "manifest.json"):
        blob = tmp_path / "blobs" / sha256(bundle.file(file))
        shutil.copyfile(bundle.file(file), blob)
        (tmp_path / "snapshot" / file).symlink_to(blob)
    linked = Bundle.open(tmp_path / "snapshot")
    assert not linked.is_scattered
    ort.OrtSession(linked, "vision_encoder").close()


def test_a_symlink_to_nothing_is_named(exported: Exporter, tmp_path: Path) -> None:
    """As git-annex leaves it before the file is there."""
    bundle = scatter(exported(TAGS), tmp_path)
    bundle.file("decoder.onnx.data").resolve().unlink()
    with pytest.raises(BundleError, match=r"decoder\.onnx\.data is a symlink to a file that is m"):
        Bundle.open(bundle.path)


def test_the_doctor_warns_of_scattered_files(exported: Exporter, tmp_path: Path) -> None:
    bundle = scatter(exported(TAGS), tmp_path)
    found = {finding.check: finding for finding in check_bundle(str(bundle.path), ["cpu"])}
    assert found["bundle files"].state == "warning"
    assert found["bundle files"].fix.endswith(f"cp -rL {bundle.path} COPY")


def test_a_graph_of_other_inputs_than_the_manifest_says(exported: Exporter) -> None:
    bundle = exported(TAGS)
    graph = bundle.graph("reencoder_projector")
    other = replace(graph, inputs=graph.inputs[1:], outputs=bundle.graph("decoder").outputs[:1])
    manifest = replace(bundle.manifest, graphs={"reencoder_projector": other})
    expected = (
        r"reencoder_projector\.onnx and manifest\.json differ in .*: features, logits, projected"
    )
    with pytest.raises(SessionError, match=expected):
        ort.OrtSession(Bundle(bundle.path, manifest), "reencoder_projector")


def test_a_graph_of_other_sizes_than_the_manifest_says(exported: Exporter) -> None:
    bundle = exported(TAGS)
    decoder = bundle.graph("decoder")
    inputs = list(decoder.inputs)
    index, past = next(
        (index, tensor) for index, tensor in enumerate(inputs) if tensor.name == "past.0.key"
    )
    inputs[index] = replace(past, shape=(*past.shape[:3], 16))
    manifest = replace(bundle.manifest, graphs={"decoder": replace(decoder, inputs=tuple(inputs))})
    with pytest.raises(SessionError) as caught:
        ort.OrtSession(Bundle(bundle.path, manifest), "decoder")
    assert "decoder.onnx and manifest.json differ in the input past.0.key: found " in str(
        caught.value
    )
    assert "'capacity', 16); export the checkpoint again" in str(caught.value)


def test_a_run_that_fails_says_so_in_one_short_line(exported: Exporter) -> None:
    """However many layers the decoder has; the whole is the cause."""
    bundle = exported(TAGS)
    session = ort.OrtSession(bundle, "decoder")
    feeds = dict[str, np.ndarray[Any, Any]]()
    for tensor in bundle.graph("decoder").inputs:
        shape = [side if isinstance(side, int) else 3 for side in tensor.shape]
        feeds[tensor.name] = np.zeros(shape, tensor.dtype)
    feeds["embeds"] = np.zeros((1, 3, 7), np.float32)
    with pytest.raises(SessionError) as caught:
        session.run(feeds, {})
    session.close()
    text = str(caught.value)
    assert text.startswith("ONNX Runtime failed in decoder (embeds (1, 3, 7), ")
    assert text.endswith(
        "): Got invalid dimensions for input: embeds for the following indices index: 2 Got: 7 "
        "Expected: 128"
    )
    assert len(text) < 300
    assert "Please fix" in str(caught.value.__cause__)


def test_what_a_graph_calls_its_nodes_reaches_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime's own log would print it, escapes and all."""
    make = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Reshape", ["x", "s"], ["y"], name="a\x1b[31m node")
    inputs = [make("x", onnx.TensorProto.FLOAT, ["n"]), make("s", onnx.TensorProto.INT64, [1])]
    outputs = [make("y", onnx.TensorProto.FLOAT, ["m"])]
    graph = onnx.helper.make_graph([node], "graph", inputs, outputs)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9
    )
    onnx.save(model, str(tmp_path / "reshape.onnx"))
    tensors = (Tensor("x", "float32", ("n",)), Tensor("s", "int64", (1,)))
    bounds = {"n": (1, 3, 9), "m": (1, 7, 9)}
    described = Graph("reshape.onnx", tensors, (Tensor("y", "float32", ("m",)),), bounds)
    bundle: Any = SimpleNamespace(file=lambda name: tmp_path / name, graph=lambda name: described)
    feeds = {"x": np.zeros(3, np.float32), "s": np.array([7])}
    session = ort.OrtSession(bundle, "reshape")
    with pytest.raises(SessionError, match=r"a\\u001b\[31m node"):
        session.run(feeds, {"y": np.empty(7, np.float32)})
    with pytest.raises(Exception, match="a\x1b\\[31m node"):
        open_cpu_session(model.SerializeToString()).run(None, feeds)
    assert capfd.readouterr().err == ""
