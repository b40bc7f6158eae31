"""What float16 does not hold is found by a question with a picture, before any graph is traced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from families import write_checkpoint
from golden import TAGS
from safetensors.torch import load_file, save_file

from vpt_edge.export.exporter import export
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor

NEURON = 174  # of TAGS' first layer: of pictures' features alone it makes large numbers
LOUD = 8192


def checkpoint(folder: Path, change: dict[tuple[str, int], float]) -> Path:
    """TAGS with rows and columns of weights multiplied: in float32 the same function."""
    folder.mkdir()
    for file in TAGS.iterdir():
        if file.name != "model.safetensors":
            (folder / file.name).symlink_to(file)
    tensors: dict[str, Tensor] = load_file(TAGS / "model.safetensors")
    for (name, axis), factor in change.items():
        tensors[name].select(axis, NEURON).mul_(factor)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_a_neuron_that_leaves_float16_for_a_picture_is_an_error(
    tmp_path: Path, target: str
) -> None:
    mlp = "model.layers.0.mlp"
    change = {(f"{mlp}.up_proj.weight", 0): LOUD, (f"{mlp}.down_proj.weight", 1): 1 / LOUD}
    loud = checkpoint(tmp_path / "loud", change)
    stages: list[str] = []
    with pytest.raises(ExportError, match=r"in float16, .* the decoder computes what is not fin"):
        export(
            str(loud),
            tmp_path / "bundle",
            precision="fp16",
            target=target,
            progress=lambda stage, share: stages.append(stage),
        )
    assert stages[-1] == "asking a question in float16"
    assert not (tmp_path / "bundle").exists()


def test_a_vision_encoder_that_leaves_float16_is_named(tmp_path: Path) -> None:
    mlp = "visual.blocks.0.mlp"
    change = {(f"{mlp}.fc1.weight", 0): 60_000.0, (f"{mlp}.fc2.weight", 1): 1 / 60_000}
    loud = checkpoint(tmp_path / "loud", change)
    with pytest.raises(ExportError, match="vision_encoder computes what is not finite"):
        export(str(loud), tmp_path / "bundle", precision="fp16", target="tensorrt")


@pytest.mark.parametrize(
    ("name", "graph"),
    [
        ("visual.deepstack_merger_list.1.linear_fc2.weight", "vision_encoder"),  # deep features
        ("visual.merger.linear_fc2.weight", "vision_encoder"),
        ("model.layers.2.mlp.down_proj.weight", "decoder"),
    ],
)
def test_of_qwen3_vl_too_the_graph_is_named(name: str, graph: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen3_vl")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[name] *= 60_000 / float(tensors[name].abs().max())
    save_file(tensors, file)
    with pytest.raises(ExportError, match=f"the {graph} computes what is not finite"):
        export(str(folder), tmp_path / "bundle", precision="fp16")
