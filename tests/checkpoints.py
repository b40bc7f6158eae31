"""Golden checkpoints: where they are, how they are broken, and how a broken one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import GOLDEN
from safetensors.torch import load_file, save_file

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.runtime.errors import CheckpointError

MODELS = GOLDEN / "models"
NAMES = ["clip", "clip_untied", "det", "seg"]
KINDS = {"clip": "clip", "clip_untied": "clip", "det": "detection", "seg": "seg"}

Tensors = dict[str, torch.Tensor]
Copy = Callable[[str], Path]  # the fixture ``copy``


def refused(path: Path | str) -> str:
    """The text with which a checkpoint is refused, in one line."""
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def change_config(folder: Path, **changes: Any) -> None:
    """``None`` takes a key away."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text("utf-8")), **changes}
    file.write_text(
        json.dumps({key: value for key, value in config.items() if value is not None}), "utf-8"
    )


def set_value(folder: Path, name: str, key: str, value: Any) -> None:
    """Put ``value`` at ``key``, such as "vision_config.depth", of the file ``name``, which may be
    missing.
    """
    file = folder / name
    data = json.loads(file.read_text("utf-8")) if file.exists() else {}
    inner = data
    *path, last = key.split(".")
    for step in path:
        inner = inner[step]
    inner[last] = value
    file.write_text(json.dumps(data), "utf-8")


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    (folder / "model.safetensors").unlink()  # it is mapped
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
