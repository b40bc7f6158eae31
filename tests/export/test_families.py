"""Plain checkpoints, that never look again: exported and asked."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from checkpoints import Tensors, change_tensors
from descriptions import call, written
from families import CONFIGS, TEXT, write_checkpoint
from golden import TAGS
from safetensors.torch import load_file, save_file

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.exporter import export
from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.errors import CheckpointError, ExportError, ImageError
from vpt_edge.runtime.manifest import Budget
from vpt_edge.runtime.perception.description import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAMILIES = list(CONFIGS)
PICTURE = np.random.default_rng(3).integers(0, 256, (90, 150, 3), np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_checkpoint_exports_and_answers(family: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", family)
    notes = list[str]()
    bundle = export(str(source), tmp_path / "bundle", precision="fp32", note=notes.append)
    manifest = bundle.manifest
    assert (manifest.model["name"], manifest.perception["name"]) == (family, "none")
    assert manifest.kind == "none"
    assert manifest.image.longest_side is None
    assert list(manifest.graphs) == ["vision_encoder", "decoder"]
    (note,) = notes
    assert "--max-pixels" in note
    with Pipeline(bundle) as pipeline:
        answer = pipeline.ask(PICTURE, "What is this?", max_new_tokens=4)
    assert (answer.looks, len(answer.turns)) == ((), 1)
    assert answer.finish_reason in ("stop", "length")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_ends_with_the_text_and_with_what_the_file_says(family: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", family)
    (source / "generation_config.json").write_text('{"eos_token_id": [258, 256, 41]}', "utf-8")
    checkpoint = Checkpoint.open(str(source))
    assert checkpoint.perception.tokens.end == (258, 256, 41)
    assert checkpoint.notes == ()


def newer_name(name: str) -> str:
    """What transformers 4.52 calls a tensor."""
    if name.startswith("model."):
        return f"model.language_model.{name.removeprefix('model.')}"
    return f"model.{name}" if name.startswith("visual.") else name


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"])
def test_a_checkpoint_in_a_newer_layout_is_the_same(family: str, tmp_path: Path) -> None:
    original = Checkpoint.open(str(write_checkpoint(tmp_path / "older", family)))
    folder = write_checkpoint(tmp_path / "newer", family)
    change_tensors(folder, lambda tensors: rename(tensors, newer_name))
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8"))
    text = {key: config.pop(key) for key in TEXT}
    rope = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta"), "type": "default"}
    layers = ["full_attention"] * text["num_hidden_layers"]
    text |= {"rope_parameters": rope, "layer_types": layers, "model_type": f"{family}_text"}
    newer = {**config, "text_config": text, "dtype": "float32"}
    newer["vision_config"]["model_type"] = f"{family}_vision"
    file.write_text(json.dumps(newer), "utf-8")
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.model == original.model
    for name in original.model.tensors():
        if name not in original.model.tower.optional_tensors():
            assert torch.equal(checkpoint.read(name), original.read(name))


def rename(tensors: Tensors, newer: Callable[[str], str]) -> None:
    renamed = {newer(name): tensor for name, tensor in tensors.items()}
    tensors.clear()
    tensors.update(renamed)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sharded_checkpoint_is_the_same(family: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", family)
    original = load_file(folder / "model.safetensors")
    names = sorted(original)
    places = dict[str, str]()
    for number in range(3):
        shard = f"model-{number}.safetensors"
        part = {name: original[name] for name in names[number::3]}
        save_file(part, folder / shard)
        places |= dict.fromkeys(part, shard)
    (folder / "model.safetensors").unlink()
    index = json.dumps({"weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index, "utf-8")
    checkpoint = Checkpoint.open(str(folder))
    assert all(torch.equal(checkpoint.read(name), original[name]) for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_lora_is_read_and_one_that_is_not_is_named(family: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", family)
    base = load_file(folder / "model.safetensors")
    adapted = [name for name in base if name.endswith(("q_proj.weight", "attn.qkv.weight"))]
    assert any("visual" in name for name in adapted) and any("layers" in name for name in adapted)
    random = torch.Generator().manual_seed(11)
    down = {name: torch.randn(2, base[name].shape[1], generator=random) for name in adapted}
    up = {name: torch.randn(base[name].shape[0], 2, generator=random) for name in adapted}

    def merge(tensors: Tensors) -> None:
        for name in adapted:
            tensors[name] = base[name] + up[name] @ down[name]

    def attach(tensors: Tensors) -> None:
        for name in adapted:
            module = name.removesuffix("weight")
            tensors[f"{module}base_layer.weight"] = base[name]
            tensors[f"{module}lora_A.default.weight"] = down[name]
            tensors[f"{module}lora_B.default.weight"] = up[name]
            del tensors[name]

    change_tensors(folder, merge)
    checkpoint = Checkpoint.open(str(folder))
    for name in adapted:
        assert torch.equal(checkpoint.read(name), base[name] + up[name] @ down[name])
    change_tensors(folder, attach)
    with pytest.raises(CheckpointError, match=r"adapter is not merged: .*lora_A"):
        Checkpoint.open(str(folder))


def test_pixels_are_those_that_are_asked_for(tmp_path: Path) -> None:
    source = str(write_checkpoint(tmp_path / "checkpoint", "qwen2_vl"))
    checkpoint = Checkpoint.open(source)
    checkpoint.limit_pixels(None, None, 512)
    assert (checkpoint.image.min_pixels, checkpoint.image.max_pixels) == (3136, 256 * 28**2)
    checkpoint = Checkpoint.open(source)
    checkpoint.limit_pixels(784, 4000000, 512)
    assert (checkpoint.image.min_pixels, checkpoint.image.max_pixels) == (784, 4000000)
    assert checkpoint.notes == ()
    for least, most in ((0, None), (4000, 3999), (1, 783), (-1, -1)):
        with pytest.raises(ExportError, match="leave no size"):
            checkpoint.limit_pixels(least, most, 4096)


def test_another_perception_is_named(tmp_path: Path) -> None:
    source = str(write_checkpoint(tmp_path / "checkpoint", "qwen2_vl"))
    for name in ("vpt", "Zoom", ""):
        with pytest.raises(CheckpointError, match="there is no description"):
            Checkpoint.open(source, name)
    assert Checkpoint.open(source, "none").perception.block["name"] == "none"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_described_way_is_in_the_bundle(family: str, tmp_path: Path) -> None:
    source = str(write_checkpoint(tmp_path / "checkpoint", family))
    description = tmp_path / "mine.json"
    shutil.copyfile(FOLDER / "qwen3-vl-zoom.json", description)
    blocks = []
    for way in ("qwen3-vl-zoom", str(description)):
        checkpoint = Checkpoint.open(source, way)
        assert checkpoint.perception.block["name"] == "text"
        blocks.append(checkpoint.perception.block)
    assert blocks[0] == blocks[1]
    description.write_text('{"rules": 1}', "utf-8")
    with pytest.raises(CheckpointError, match=r"mine.json has other keys than expected"):
        Checkpoint.open(source, str(description))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_described_checkpoint_exports_and_looks(family: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", family)
    way = written({"sampling": None, "look.resize": None}, tmp_path)
    bundle = export(str(source), tmp_path / "bundle", precision="fp32", perception=str(way))
    assert bundle.manifest.kind == "text"
    with Pipeline(bundle) as pipeline:
        said = call([0, 0, 500, 1000])
        answer = pipeline.ask(PICTURE, "What?", assistant_prefix=said, max_new_tokens=1)
    (look,) = answer.looks
    assert (look.box, len(answer.turns)) == ((0, 0, 75, 90), 2)


def test_a_checkpoint_of_vpt_has_its_own_way() -> None:
    with pytest.raises(ExportError, match="looks again by its own tokens"):
        Checkpoint.open(str(TAGS), "none")
    assert Checkpoint.open(str(TAGS), "vpt").perception.block["name"] == "vpt"


def test_a_picture_is_shown_in_its_own_size(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", "qwen2_vl")
    budget = Budget(first_max_pixels=100_000, look_max_pixels=784)
    target = tmp_path / "bundle"
    bundle = export(str(source), target, precision="fp32", max_pixels=2000000, budget=budget)
    assert bundle.manifest.budget == budget
    refusals = {
        "first_max_pixels is 783, expected 784": Budget(first_max_pixels=783),
        "first_max_pixels is 2000001, .* max_pixels 2000000": Budget(first_max_pixels=2000001),
        "look_max_pixels is 783, expected 784": Budget(look_max_pixels=783),
    }
    for refusal, wrong in refusals.items():
        with pytest.raises(ExportError, match=refusal):
            export(str(source), target, precision="fp32", max_pixels=2000000, budget=wrong)
    with Pipeline(bundle) as pipeline:
        with pytest.raises(ImageError, match="aspect ratio is 201, expected 200 at most"):
            pipeline.encode(np.zeros((10, 2010, 3), np.uint8))
        with pipeline.encode(np.zeros((600, 840, 3), np.uint8)) as picture:
            assert picture.features[0].outline().grid == (1, 42, 60)
