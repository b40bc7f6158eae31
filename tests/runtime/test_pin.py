"""A bundle that is taken away and put back within one opening: what is opened is what was read."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from golden import TAGS, Exporter
from scripted import PICTURE

from vpt_edge.runtime import Bundle, Pipeline, bundle, pipeline
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.exchange import exchange
from vpt_edge.runtime.manifest import write_sealed
from vpt_edge.runtime.pin import Pin
from vpt_edge.runtime.testing import Script, tiny_bundle

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="no other system lets others open files through a handle"
)

# What is called on the way from the manifest to the last file that is mapped.
STEPS: dict[str, tuple[Any, str]] = {
    "manifest": (bundle, "read_manifest"),
    "graphs": (bundle, "read_external_data"),
    "hashes": (bundle, "sha256"),
    "tokenizer": (pipeline, "Chat"),
    "table": (Bundle, "embeddings"),
}


def add_twin(path: Path) -> None:
    """Beside the bundle ``path`` the bundle ``other``: the same but for its floats."""
    other = path.with_name("other")
    shutil.copytree(path, other)
    data = json.loads((other / "manifest.json").read_text("utf-8"))
    for name in data["files"]:
        file = other / name
        if file.suffix in (".bin", ".data"):
            (np.fromfile(file, np.float32) * np.float32(1.25)).tofile(file)
        data["files"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    del data["sha256"]
    write_sealed(data, other)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tiny_bundle(tmp_path / "bundle")
    add_twin(tmp_path / "bundle")
    return tmp_path / "bundle"


def swap_folders(path: Path) -> None:
    assert exchange(path, path.with_name("other"))


def swap_tables(path: Path) -> None:
    assert exchange(path / "embeddings.bin", path.with_name("other") / "embeddings.bin")


def swap_links(path: Path) -> None:
    """To the table in a folder of its own."""
    assert exchange(path / "embeddings.bin", path / "other.bin")


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str], swap: Callable[[], None]
) -> None:
    """Let ``swap`` happen before each call of the step, and again behind it."""
    owner, name = step
    original = getattr(owner, name)
    lock = threading.Lock()  # files are hashed in several threads

    def away(*arguments: Any, **options: Any) -> Any:
        with lock:
            swap()
            try:
                return original(*arguments, **options)
            finally:
                swap()

    monkeypatch.setattr(owner, name, away)


def factor(opened: Pipeline) -> float:
    """Of the table that was mapped: 1, or that of the twin."""
    row = opened._decoder._embeddings.rows([8])
    return float(row[0, 0]) / 8


@pytest.mark.parametrize("step", STEPS)
def test_a_folder_that_was_away_is_the_one_that_was_read(
    step: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, STEPS[step], lambda: swap_folders(path))
    with Pipeline(path, opener=Script("yes")) as opened:
        assert factor(opened) == 1
        assert opened.ask(PICTURE, "What?").text == "yes"


@pytest.mark.parametrize("step", ["hashes", "table"])
def test_so_is_a_bundle_that_was_opened_before(
    step: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Bundle.open(path)
    meanwhile(monkeypatch, STEPS[step], lambda: swap_folders(path))
    with Pipeline(opened, opener=Script("yes")) as opened_later:
        assert factor(opened_later) == 1


@pytest.mark.parametrize("step", ["hashes", "tokenizer", "table"])
def test_a_file_that_was_away_is_an_error(
    step: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library opens it by its name, and nobody can say which one that was."""
    meanwhile(monkeypatch, STEPS[step], lambda: swap_tables(path))
    with pytest.raises(BundleError, match=r"was replaced while it was in use: embeddings\.bin ch"):
        Pipeline(path, opener=Script("yes"))


@pytest.mark.parametrize("step", ["hashes", "tokenizer", "table"])
def test_so_is_a_symlink_that_led_elsewhere(
    step: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path / "embeddings.bin").rename(path.parent / "table")
    (path / "embeddings.bin").symlink_to(path.parent / "table")
    (path / "other.bin").symlink_to(path.with_name("other") / "embeddings.bin")
    Pipeline(path, opener=Script("yes")).close()
    meanwhile(monkeypatch, STEPS[step], lambda: swap_links(path))
    with pytest.raises(BundleError, match=r"was replaced while it was in use: embeddings\.bin ch"):
        Pipeline(path, opener=Script("yes"))


def logits(opened: Pipeline) -> np.ndarray[Any, Any]:
    answer = opened.ask(PICTURE, "What?", max_new_tokens=2, keep_logits=True)
    kept = answer.turns[0].logits
    assert kept is not None
    return kept


@pytest.fixture
def real(exported: Exporter, tmp_path: Path) -> Path:
    """A bundle whose graphs compute, with its twin."""
    shutil.copytree(exported(TAGS).path, tmp_path / "bundle")
    add_twin(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_onnx_runtime_opens_what_was_read(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Pipeline(real) as opened:
        expected = logits(opened)
    meanwhile(monkeypatch, (onnxruntime, "InferenceSession"), lambda: swap_folders(real))
    with Pipeline(real) as opened:
        np.testing.assert_allclose(logits(opened), expected, rtol=1e-4, atol=1e-4)


def test_what_a_library_makes_of_a_folder_that_moves_is_one_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime from 1.24 on asks for the folder's name and looks for the weights there."""

    def look_for_it(model: Any, name: str) -> Any:
        swap_folders(path)
        swap_folders(path)
        raise OSError("External data path escapes model directory")

    with pytest.raises(BundleError, match="was replaced while it was in use: the folder was moved"):
        Pipeline(path, opener=look_for_it)


def test_swaps_without_end_give_no_mixture(real: Path) -> None:
    with Pipeline(real) as opened:
        here = logits(opened)
    with Pipeline(real.with_name("other")) as opened:
        there = logits(opened)
    assert not np.allclose(here, there, rtol=1e-2)
    stop = threading.Event()
    errors = list[str]()

    def swap() -> None:
        pauses = itertools.cycle([0.001, 0.003, 0.007, 0.02])
        while not stop.wait(next(pauses)):
            swap_folders(real)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(20):
            try:
                with Pipeline(real) as opened:
                    found = logits(opened)
            except BundleError as error:
                errors.append(str(error))
                continue
            known = [np.allclose(found, each, rtol=1e-4, atol=1e-4) for each in (here, there)]
            assert any(known)
    finally:
        stop.set()
        thread.join()
    assert all("was replaced while it was in use" in text for text in errors)


def test_a_pin_leads_to_the_folder_until_it_is_closed(path: Path) -> None:
    handles = len(list(Path("/proc/self/fd").iterdir()))
    with Pin(path) as pin:
        path.rename(path.with_name("moved"))
        assert (pin.place / "manifest.json").is_file()
        assert pin.moved
    pin.close()
    assert pin.place == path
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


@pytest.mark.parametrize("name", ["gone", "bundle/manifest.json", "a\0b"])
def test_what_is_not_a_folder_is_not_held(name: str, path: Path) -> None:
    with Pin(path.parent / name) as pin:
        assert pin.place == path.parent / name
        assert not pin.moved


def test_what_is_added_is_not_a_move(path: Path) -> None:
    with Pin(path) as pin:
        (path / "plans").mkdir()
        assert not pin.moved


def test_without_handles_today_is_as_yesterday(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems, and a Linux without /proc: the folder is looked at before and behind."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with Pin(path) as pin:
        assert pin.place == path
    Pipeline(path, opener=Script("yes")).close()
    opened = Bundle.open(path)
    swap_folders(path)
    with pytest.raises(BundleError, match="was replaced while it was in use"):
        Pipeline(opened, opener=Script("yes"))
