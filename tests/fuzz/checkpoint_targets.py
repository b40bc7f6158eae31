"""What an export reads: a checkpoint's config files and weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from golden import TAGS

from fuzz import mutations
from fuzz.target import Target, root
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models import dinov2, sam, vpt
from vpt_edge.export.tensor_files import TensorFiles

if TYPE_CHECKING:
    from hypothesis import strategies as st
    from numpy.typing import NDArray


@cache
def _checkpoint() -> Path:
    """The files of tests/tags as links: a damaged one takes the place of its link."""
    folder = root() / "checkpoint"
    folder.mkdir()
    for file in TAGS.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def _open_checkpoint(data: bytes, name: str) -> None:
    folder = _checkpoint()
    file = folder / name
    original = TAGS / name
    file.unlink()
    file.write_bytes(data)
    try:
        Checkpoint.open(str(folder))
    finally:
        file.unlink()
        file.symlink_to(original)


def _read_config(data: bytes) -> None:
    _open_checkpoint(data, "config.json")


def _configs() -> st.SearchStrategy[bytes]:
    return mutations.documents([json.loads((TAGS / "config.json").read_text("utf-8"))])


def _read_preprocessor(data: bytes) -> None:
    _open_checkpoint(data, "preprocessor_config.json")


def _preprocessors() -> st.SearchStrategy[bytes]:
    original = json.loads((TAGS / "preprocessor_config.json").read_text("utf-8"))
    size = {"shortest_edge": 3136, "longest_edge": 12845056}
    return mutations.documents([original, {**original, "size": size}])


def _read_weights(data: bytes) -> None:
    folder = root() / "weights"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(data)
    files = TensorFiles(folder)
    for name in files.shapes:
        files.read(name)


def _weights() -> st.SearchStrategy[bytes]:
    tensors: dict[str, NDArray[Any]] = {
        "a.weight": np.ones((2, 3), np.float32),
        "a.bias": np.ones(3, np.float16),
    }
    return mutations.files([safetensors.numpy.save(tensors)])


def _read_encoder(data: bytes) -> None:
    folder = root()
    for kind, file in (("detection", dinov2.CONFIG), ("seg", sam.CONFIG)):
        (folder / file).write_bytes(data)
        vpt.Reencoder.read(kind, folder, 64).tensors()


def _encoders() -> st.SearchStrategy[bytes]:
    config = asdict(dinov2.Dinov2Config())
    return mutations.documents([config, {**config, **asdict(sam.SamConfig())}])


CHECKPOINT = {
    "config": Target(_read_config, _configs),
    "preprocessor": Target(_read_preprocessor, _preprocessors),
    "encoder": Target(_read_encoder, _encoders),
    "weights": Target(_read_weights, _weights),
}
