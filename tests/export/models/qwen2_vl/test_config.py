"""Configurations that the graphs are written for, and others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import MODELS, Copy, change_config, refused
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models.qwen2_vl.config import text_config
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.manifest import ImageConfig

pytestmark = needs_golden


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"model_type": "qwen2_vl"}, "model_type is 'qwen2_vl', expected 'qwen2_vl_vpt'"),
        ({"model_type": None}, "model_type is None"),
        ({"vision_encoder_ls": []}, "vision_encoder_ls is []"),
        ({"vision_encoder_ls": None}, "vision_encoder_ls is None"),
        ({"vision_encoder_ls": ["clip", "dino"]}, "expected one of clip, dino, sam"),
        ({"vision_encoder_ls": ["siglip"]}, "expected one of clip, dino, sam"),
        ({"vision_encoder_ls": "clip"}, "expected one of clip, dino, sam"),
        ({"vision_encoder_ls": ["dino"]}, "<|detection_image_pad|>"),
        ({"projector_scale": 2}, "projector_scale is 2, expected 1"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'silu'"),
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"rope_scaling": None}, "lacks mrope_section"),
        ({"rope_scaling": {"mrope_section": [2, 3]}}, "mrope_section is [2, 3]"),
        ({"rope_scaling": {"mrope_section": [2, 3, 4]}}, "expected three numbers of sum 8"),
        ({"rope_scaling": "default"}, "rope_scaling is 'default', expected an object"),
        ({"rope_scaling": [16, 24, 24]}, "rope_scaling is [16, 24, 24], expected an object"),
        ({"vision_config": None}, "lacks vision_config"),
        ({"num_hidden_layers": 3}, "missing model.layers.2."),
        ({"num_hidden_layers": 1}, "surplus model.layers.1."),
        ({"vocab_size": 900}, "vocab_size of 900"),
        ({"vocab_size": 2048}, "has shape [1024, 64], expected [2048, 64]"),
    ],
)
def test_another_model_is_refused(changes: dict[str, Any], found: str, copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, **changes)
    assert found in refused(folder)


def rope_scaling(**changes: Any) -> dict[str, Any]:
    """A configuration whose rope_scaling has ``changes``."""
    config = json.loads((MODELS / "clip" / "config.json").read_text("utf-8"))
    return {**config, "rope_scaling": {**config["rope_scaling"], **changes}}


@pytest.mark.parametrize(
    "name", ["yarn", "linear", "dynamic", "longrope", "llama3", "su", "", None, ["default"]]
)
@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_scaled_rotary_positions_are_refused(key: str, name: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        text_config(rope_scaling(**{key: name}, factor=4.0), tmp_path)
    expected = f"{key} of rope_scaling is {name!r}, expected 'default' or 'mrope'"
    assert str(error.value).endswith(expected)


@pytest.mark.parametrize(
    "types", [{}, {"type": "mrope"}, {"type": "default", "rope_type": "default"}]
)
def test_unscaled_rotary_positions_are_taken(types: dict[str, str], tmp_path: Path) -> None:
    config = rope_scaling()
    section = config["rope_scaling"]["mrope_section"]
    config["rope_scaling"] = {"mrope_section": section, **types}
    assert text_config(config, tmp_path).mrope_section == tuple(section)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"patch_size": 16}, "patch_size is 16, expected 14"),
        ({"spatial_patch_size": 16}, "patch_size is 16, expected 14"),
        ({"spatial_merge_size": 4}, "merge_size is 4, expected 2"),
        ({"temporal_patch_size": 1}, "temporal_patch_size is 1, expected 2"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'quick_gelu'"),
        ({"in_chans": 4}, "in_channels is 4, expected 3"),
        ({"hidden_size": 128}, "hidden_size is 128, expected 64"),
    ],
)
def test_another_vision_tower_is_refused(changes: dict[str, Any], found: str, copy: Copy) -> None:
    folder = copy("clip")
    vision = json.loads((folder / "config.json").read_text("utf-8"))["vision_config"]
    change_config(folder, vision_config={**vision, **changes})
    assert found in refused(folder)


def test_other_preprocessing_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    file = folder / "preprocessor_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text("utf-8")), "image_mean": [0.5, 0.5, 0.5]}), "utf-8"
    )
    assert "image_mean is [0.5, 0.5, 0.5]" in refused(folder)


def test_limits_come_from_the_preprocessor_where_there_is_one(copy: Copy) -> None:
    folder = copy("seg")
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.image == ImageConfig(longest_side=512, min_pixels=3136, max_pixels=12845056)
    assert checkpoint.perception.longest_side == 1024
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({"min_pixels": 5000, "max_pixels": 100000}), "utf-8")
    image = Checkpoint.open(str(folder)).image
    assert (image.min_pixels, image.max_pixels) == (5000, 100000)
    file.unlink()
    assert Checkpoint.open(str(folder)).image.min_pixels == 3136
