"""The files that hold a checkpoint's weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.export.config_files import read_json
from vpt_edge.runtime.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from vpt_edge.export.spec import Shape

STEMS = {"model": "safetensors", "pytorch_model": "bin"}  # the first that is there is read
DAMAGE = (OSError, ValueError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError)


class TensorFiles:
    """The weights: safetensors or pytorch_model*.bin, single or sharded; read through memory maps.

    Raises CheckpointError for files that are missing, cut off or not of tensors.
    """

    def __init__(self, path: Path) -> None:
        self.shapes: dict[str, Shape] = {}
        self._files: dict[str, _OpenFile] = {}
        for file in _weight_files(path):
            opened = _open(file)
            for name, shape in opened.shapes.items():
                self.shapes[name] = shape
                self._files[name] = opened

    def read(self, name: str) -> torch.Tensor:
        """One tensor, mapped from disk."""
        return self._files[name].read(name)


@dataclass(frozen=True)
class _OpenFile:
    shapes: dict[str, Shape]
    read: Callable[[str], torch.Tensor]


def _weight_files(path: Path) -> list[Path]:
    """The file of weights in the folder ``path``, or its shards."""
    for stem, suffix in STEMS.items():
        single = path / f"{stem}.{suffix}"
        index = path / f"{stem}.{suffix}.index.json"
        if single.exists():
            return [single]
        if index.exists():
            return _shards(index)
    raise CheckpointError(
        f"{path} holds no weights: expected model.safetensors or pytorch_model.bin, or shards",
        "download or copy the checkpoint again",
    )


def _shards(index: Path) -> list[Path]:
    names = set(read_json(index).get("weight_map", {}).values())
    if not names:
        raise CheckpointError(f"{index} names no files", "download or copy it again")
    absent = [name for name in sorted(names) if not (index.parent / name).exists()]
    if absent:
        raise CheckpointError(
            f"{index} names files that are missing: {', '.join(absent)}", "download them"
        )
    return [index.parent / name for name in sorted(names)]


def _open(file: Path) -> _OpenFile:
    try:
        if file.suffix == ".safetensors":
            return _open_safetensors(file)
        return _open_bin(file)
    except DAMAGE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{file} is damaged or cut off ({reason})", "download or copy it again"
        ) from error


def _open_safetensors(file: Path) -> _OpenFile:
    from safetensors import SafetensorError, safe_open

    shapes = {}
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                shapes[name] = tuple(tensors.get_slice(name).get_shape())
    except SafetensorError as error:
        raise ValueError(str(error)) from error

    def read(name: str) -> torch.Tensor:
        # a map of its own: what was read goes when the tensor does
        with safe_open(file, framework="pt") as tensors:
            return tensors.get_tensor(name)

    return _OpenFile(shapes, read)


def _open_bin(file: Path) -> _OpenFile:
    import torch

    tensors = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    if not isinstance(tensors, dict):
        raise ValueError("it is not a dictionary of tensors")
    shapes = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError("it is not a dictionary of tensors")
        shapes[name] = tuple(tensor.shape)
    return _OpenFile(shapes, tensors.__getitem__)
