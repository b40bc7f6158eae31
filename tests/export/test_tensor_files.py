"""Weights in every form in which checkpoints have them, and files that are broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import MODELS, NAMES, Copy, Tensors, refused
from golden import needs_golden
from safetensors.torch import load_file, save_file

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_cut_off_safetensors_are_refused(share: float, copy: Copy) -> None:
    file = copy("clip") / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert "model.safetensors is damaged or cut off" in refused(file.parent)


def same(folder: Path, name: str) -> None:
    """``folder`` holds the tensors of the golden checkpoint ``name``."""
    checkpoint, tensors = (
        Checkpoint.open(str(folder)),
        load_file(MODELS / name / "model.safetensors"),
    )
    assert all(torch.equal(checkpoint.read(tensor), value) for tensor, value in tensors.items())


def shards(
    folder: Path, name: str, stem: str, suffix: str, save: Callable[[Tensors, Path], object]
) -> None:
    """Write the tensors in two files and their index."""
    tensors = load_file(MODELS / name / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half, weight_map = len(tensors) // 2, dict[str, str]()
    for index, part in enumerate((list(tensors)[:half], list(tensors)[half:])):
        file = f"{stem}-{index + 1:05d}-of-00002.{suffix}"
        save({tensor: tensors[tensor] for tensor in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    listing = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(listing), "utf-8")


SHARDED = [("model", "safetensors", save_file), ("pytorch_model", "bin", torch.save)]


@pytest.mark.parametrize(("stem", "suffix", "save"), SHARDED)
@pytest.mark.parametrize("name", ["clip_untied", "seg"])
def test_shards_read_alike(name: str, stem: str, suffix: str, save: Any, copy: Copy) -> None:
    folder = copy(name)
    shards(folder, name, stem, suffix, save)
    same(folder, name)


@pytest.mark.parametrize(("stem", "suffix", "save"), SHARDED)
def test_a_missing_shard_is_named(stem: str, suffix: str, save: Any, copy: Copy) -> None:
    folder = copy("clip")
    shards(folder, "clip", stem, suffix, save)
    (folder / f"{stem}-00002-of-00002.{suffix}").unlink()
    assert f"{stem}-00002-of-00002.{suffix}" in refused(folder)


def test_an_index_without_files_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}", "utf-8")
    assert "model.safetensors.index.json" in refused(folder)


def as_bin(folder: Path) -> Path:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_files_read_alike(name: str, copy: Copy) -> None:
    folder = copy(name)
    as_bin(folder)
    same(folder, name)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_cut_off_pytorch_files_are_refused(share: float, copy: Copy) -> None:
    file = as_bin(copy("clip"))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert "pytorch_model.bin is damaged or cut off" in refused(file.parent)


class Stranger:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


def test_pytorch_files_run_no_code(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy("clip")
    monkeypatch.chdir(folder)
    torch.save({"model.norm.weight": Stranger()}, as_bin(folder))
    assert "pytorch_model.bin" in refused(folder)
    assert not (folder / "touched").exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"model.norm.weight": 3}])
def test_pytorch_files_hold_tensors_by_name(content: Any, copy: Copy) -> None:
    folder = copy("clip")
    torch.save(content, as_bin(folder))
    assert "not a dictionary of tensors" in refused(folder)


def test_safetensors_go_before_pytorch_files(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "pytorch_model.bin").write_bytes(b"damaged")
    same(folder, "clip")
