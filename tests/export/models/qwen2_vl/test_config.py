"""Configurations that the graphs are written for, and others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import MODELS, Copy, change_config, refused, set_value
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models.qwen2_vl.config import text_config
from vpt_edge.runtime.errors import CheckpointError

pytestmark = needs_golden


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"model_type": "qwen2_vl"}, "surplus clip_projector."),
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
        ({"num_hidden_layers": 3}, "model.layers has 2 layers, expected 3; missing "),
        ({"num_hidden_layers": 1000}, "model.layers has 2 layers, expected 1000; missing "),
        ({"num_hidden_layers": 1}, "surplus model.layers.1."),
        ({"vocab_size": 900}, "vocab_size of 900"),
        ({"vocab_size": 2048}, "has shape [1024, 64], expected [2048, 64]"),
    ],
)
def test_another_model_is_refused(changes: dict[str, Any], found: str, copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, **changes)
    assert found in refused(folder)


WRONG_VALUES = [  # key of config.json, value
    ("hidden_size", "64"),
    ("hidden_size", None),
    ("hidden_size", [64]),
    ("hidden_size", {"value": 64}),
    ("hidden_size", 0),
    ("hidden_size", -64),
    ("hidden_size", 10**78),
    ("hidden_size", float("nan")),
    ("intermediate_size", True),
    ("vocab_size", 1024.0),
    ("vocab_size", "0"),
    ("num_attention_heads", 0),
    ("num_attention_heads", 5),
    ("num_key_value_heads", 0),
    ("num_key_value_heads", 3),
    ("num_key_value_heads", 8),
    ("num_hidden_layers", "2"),
    ("num_hidden_layers", 10**9),
    ("num_hidden_layers", 2147483650),
    ("rms_norm_eps", 0),
    ("rms_norm_eps", -1e-6),
    ("rms_norm_eps", float("inf")),
    ("rope_theta", 0),
    ("rope_theta", -1e6),
    ("rope_theta", "1e6"),
    ("rope_theta", float("nan")),
    ("tie_word_embeddings", "false"),
    ("tie_word_embeddings", 0),
    ("use_sliding_window", "false"),
    ("use_sliding_window", 0),
    ("projector_scale", True),
    ("projector_scale", "1"),
    ("hidden_act", None),
    ("hidden_act", ["silu"]),
    ("rope_scaling", 2147483647),
    ("rope_scaling.mrope_section", 1),
    ("rope_scaling.mrope_section", None),
    ("rope_scaling.mrope_section", [2, " ", 3]),
    ("rope_scaling.mrope_section", [2.0, 3.0, 3.0]),
    ("rope_scaling.mrope_section", [-2, 5, 5]),
    ("rope_scaling.mrope_section", [2, 3, 3, 0]),
    ("vision_config", "default"),
    ("vision_config", []),
    ("vision_config.depth", None),
    ("vision_config.depth", 10**9),
    ("vision_config.depth", 2.0),
    ("vision_config.embed_dim", "/etc/passwd"),
    ("vision_config.num_heads", 0),
    ("vision_config.num_heads", 3),
    ("vision_config.num_heads", 32),
    ("vision_config.mlp_ratio", 0),
    ("vision_config.mlp_ratio", "4"),
    ("vision_config.mlp_ratio", float("inf")),
    ("vision_config.in_chans", 3.0),
    ("model_type", ["qwen2_vl_vpt"]),
    ("vision_encoder_ls", [["clip"]]),
    ("vision_encoder_ls", {"clip": 1}),
    ("image_token_id", 968000000),
    ("image_token_id", "968"),
    ("image_token_id", 967),
    ("vision_start_token_id", 0),
    ("vision_end_token_id", -1),
    ("video_token_id", 1024),
    ("eos_token_id", [1, 2, 3000]),
    ("clip_action_id", "clip"),
    ("clip_image_token_id", 10**9),
]


@pytest.mark.parametrize(("key", "value"), WRONG_VALUES, ids=str)
def test_a_value_of_another_type_or_range_is_named(key: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "config.json", key, value)
    text = refused(folder)
    assert key.rpartition(".")[2].replace("in_chans", "in_channels") in text
    assert "expected" in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rms_norm_eps", 1e-5),
        ("rope_theta", 1000000),
        ("eos_token_id", [958, 956]),
        ("pad_token_id", -1),
        ("pad_token_id", None),
        ("clip_action_id", None),
        ("head_dim", 16),
        ("head_dim", None),
        ("layer_types", ["full_attention"] * 2),
        ("vision_config.mlp_ratio", 4.0),
        ("vision_config.in_channels", 3),
        ("max_position_embeddings", "x"),  # nothing reads it
    ],
    ids=str,
)
def test_a_value_that_changes_nothing_is_taken(key: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "config.json", key, value)
    Checkpoint.open(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_dim", 32),
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("layer_types", ["full_attention"] * 3),
        ("partial_rotary_factor", 0.5),
        ("rope_scaling.mrope_interleaved", True),
        ("rope_scaling.rope_theta", 5.0),
    ],
    ids=str,
)
def test_what_newer_versions_may_say_is_what_the_graphs_do(
    key: str, value: Any, copy: Copy
) -> None:
    folder = copy("clip")
    set_value(folder, "config.json", key, value)
    assert key.rpartition(".")[2] in refused(folder)


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
        ({"patch_size": 16}, "patch_size is 14 and 16, expected one value"),
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
