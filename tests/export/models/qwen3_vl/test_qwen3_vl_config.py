"""Configurations of Qwen3-VL that the graphs are written for, in both layouts, and others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from families import CONFIGS

from vpt_edge.export.models import Model
from vpt_edge.export.models.qwen3_vl import Qwen3VL
from vpt_edge.runtime.errors import CheckpointError

FOLDER = Path("checkpoint")
RELEASED = {  # hidden, intermediate, layers, heads, tied; the tower's hidden, depth and levels
    "2B": (2048, 6144, 28, 16, True, 1024, 4096, 24, [5, 11, 17]),
    "4B": (2560, 9728, 36, 32, True, 1024, 4096, 24, [5, 11, 17]),
    "8B": (4096, 12288, 36, 32, False, 1152, 4304, 27, [8, 16, 24]),
}


def config(**changes: Any) -> dict[str, Any]:
    """The tiny one with ``changes`` by dotted key, ``__`` for the dots; a value of KeyError leaves
    a key out.
    """
    values = copy.deepcopy({**CONFIGS["qwen3_vl"], "model_type": "qwen3_vl"})
    for name, value in changes.items():
        *path, key = name.split("__")
        level = values
        for part in path:
            level = level[part]
        if value is KeyError:
            del level[key]
        else:
            level[key] = value
    return values


def read(**changes: Any) -> Qwen3VL:
    tower = Model.read(config(**changes), FOLDER).tower
    assert isinstance(tower, Qwen3VL)
    return tower


def refused(**changes: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        read(**changes)
    assert len(str(error.value)) < 400
    return str(error.value)


def newer(values: dict[str, Any]) -> dict[str, Any]:
    """As transformers 5 saves it."""
    text = values["text_config"]
    rope = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}
    text["rope_parameters"] = rope
    text["dtype"] = values["dtype"] = "bfloat16"
    text["pad_token_id"] = None
    vision = values["vision_config"]
    vision["rope_parameters"] = {"rope_theta": 10000.0, "rope_type": "axial"}
    vision["model_type"] = "qwen3_vl_vision"
    return values


def test_both_layouts_are_one_model() -> None:
    assert Model.read(newer(config()), FOLDER) == Model.read(config(), FOLDER)


@pytest.mark.parametrize("size", RELEASED)
def test_the_released_sizes_have_the_expected_tensors(size: str) -> None:
    hidden, between, layers, heads, tied, width, mlp, depth, levels = RELEASED[size]
    tower = read(
        text_config__hidden_size=hidden,
        text_config__intermediate_size=between,
        text_config__num_hidden_layers=layers,
        text_config__num_attention_heads=heads,
        text_config__num_key_value_heads=8,
        text_config__head_dim=128,
        text_config__vocab_size=151936,
        text_config__rope_scaling__mrope_section=[24, 20, 20],
        text_config__tie_word_embeddings=tied,
        tie_word_embeddings=tied,
        vision_config__hidden_size=width,
        vision_config__intermediate_size=mlp,
        vision_config__depth=depth,
        vision_config__num_heads=16,
        vision_config__num_position_embeddings=2304,
        vision_config__deepstack_visual_indexes=levels,
        vision_config__out_hidden_size=hidden,
    )
    tensors = tower.tensors()
    assert tensors["visual.pos_embed.weight"] == (48 * 48, width)
    assert tensors["visual.patch_embed.proj.weight"] == (width, 3, 2, 16, 16)
    assert tensors["visual.deepstack_merger_list.2.norm.weight"] == (4 * width,)
    assert tensors["visual.merger.norm.weight"] == (width,)
    assert tensors[f"visual.blocks.{depth - 1}.mlp.linear_fc1.weight"] == (mlp, width)
    attention = f"model.layers.{layers - 1}.self_attn"
    assert tensors[f"{attention}.q_proj.weight"] == (128 * heads, hidden)
    assert tensors[f"{attention}.o_proj.weight"] == (hidden, 128 * heads)
    assert tensors[f"{attention}.q_norm.weight"] == (128,)
    assert not any(name.endswith("q_proj.bias") for name in tensors)
    assert tower.optional_tensors() == ({"lm_head.weight"} if tied else set())
    assert tower.block() == {
        "name": "qwen3_vl",
        "head_dim": width // 16,
        "levels": 3,
        "positions_side": 48,
    }


def test_names_of_transformers_are_the_models() -> None:
    tower = read()
    assert tower.original_name("model.language_model.norm.weight") == "model.norm.weight"
    name = "visual.deepstack_merger_list.0.linear_fc1.bias"
    assert tower.original_name(f"model.{name}") == tower.original_name(name) == name


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("text_config", None, "lacks hidden_size"),
        ("text_config", [], "text_config is [], expected an object"),
        ("vision_config", None, "lacks vision_config"),
        ("vision_config", "default", "vision_config is 'default', expected an object"),
        ("text_config__model_type", "qwen3_vl_moe_text", "expected 'qwen3_vl' or one of its"),
        ("text_config__model_type", "qwen2_vl_text", "expected 'qwen3_vl' or one of its parts"),
        ("vision_config__model_type", "qwen3_5", "expected 'qwen3_vl' or one of its parts"),
        ("text_config__num_experts", 128, "num_experts is 128, and Qwen3-VL has none"),
        ("text_config__attention_bias", True, "attention_bias is True, and Qwen3-VL has none"),
        ("text_config__hidden_act", "gelu", "hidden_act is 'gelu', expected 'silu'"),
        ("text_config__head_dim", KeyError, "lacks head_dim"),
        ("text_config__head_dim", 16, "mrope_section is [8, 4, 4], expected three numbers of sum"),
        ("text_config__head_dim", 0, "head_dim is 0"),
        ("text_config__num_key_value_heads", 3, "num_key_value_heads is 3, expected a divisor"),
        ("text_config__rope_theta", KeyError, "lacks rope_theta"),
        ("text_config__rope_theta", "5e6", "rope_theta is '5e6'"),
        ("text_config__rope_scaling__rope_type", "yarn", "rope_type of rope_scaling is 'yarn'"),
        ("text_config__rope_scaling__mrope_interleaved", False, "mrope_interleaved is False"),
        ("text_config__rope_scaling__mrope_section", [8, 4], "mrope_section is [8, 4]"),
        ("text_config__use_sliding_window", True, "use_sliding_window is True"),
        ("text_config__tie_word_embeddings", False, "tie_word_embeddings is True and False"),
        ("text_config__layer_types", ["sliding_attention"] * 3, "layer_types is"),
        ("vision_config__hidden_act", "quick_gelu", "expected 'gelu_pytorch_tanh'"),
        ("vision_config__patch_size", 14, "patch_size is 14, expected 16"),
        ("vision_config__patch_size", [16, 16], "patch_size is [16, 16]"),
        ("vision_config__spatial_merge_size", 4, "spatial_merge_size is 4, expected 2"),
        ("vision_config__temporal_patch_size", 1, "temporal_patch_size is 1, expected 2"),
        ("vision_config__in_channels", 4, "in_channels is 4, expected 3"),
        ("vision_config__out_hidden_size", 128, "out_hidden_size is 128, expected 64"),
        ("vision_config__num_heads", 3, "num_heads is 3, expected heads of a multiple of four"),
        ("vision_config__num_position_embeddings", 37, "is 37, expected the square of a number"),
        ("vision_config__fullatt_block_indexes", [7], "fullatt_block_indexes is [7], and Qwen3-VL"),
        ("vision_config__deepstack_visual_indexes", KeyError, "lacks vision_config.deepstack"),
        ("vision_config__deepstack_visual_indexes", [], "deepstack_visual_indexes is []"),
        ("vision_config__deepstack_visual_indexes", [2, 0], "is [2, 0], expected 1 to 3 of the"),
        ("vision_config__deepstack_visual_indexes", [1, 1], "is [1, 1], expected 1 to 3 of the"),
        ("vision_config__deepstack_visual_indexes", [0, 3], "of the layers 0 to 2, in order"),
        ("vision_config__deepstack_visual_indexes", [-1], "deepstack_visual_indexes is [-1]"),
        ("vision_config__deepstack_visual_indexes", 3, "deepstack_visual_indexes is 3"),
        ("vision_config__rope_parameters", {"rope_type": "axial", "rope_theta": 5.0}, "rope_para"),
    ],
)
def test_another_model_is_refused(key: str, value: Any, found: str) -> None:
    assert found in refused(**{key: value})


def test_as_many_levels_as_layers_at_most() -> None:
    changes = {"text_config__num_hidden_layers": 1}
    assert "expected 1 to 1 of the layers" in refused(**changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text_config__attention_bias", False),
        ("text_config__rope_scaling__mrope_interleaved", KeyError),
        ("text_config__use_qk_norm", True),
        ("text_config__max_position_embeddings", 262144),
        ("text_config__layer_types", ["full_attention"] * 3),
        ("text_config__tie_word_embeddings", True),
        ("vision_config__model_type", "qwen3_vl_vision"),
        ("vision_config__initializer_range", 0.02),
        ("vision_end_token_id", 263),
    ],
)
def test_a_value_that_changes_nothing_is_taken(key: str, value: Any) -> None:
    assert read(**{key: value}) == read()
