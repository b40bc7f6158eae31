"""SAM's geometry, and which of its layers attend to everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vpt_edge.export.models.sam import CONFIG, SamConfig, read_config, tensors
from vpt_edge.runtime.errors import CheckpointError


def test_without_a_file_it_is_the_one_that_the_authors_use(tmp_path: Path) -> None:
    assert read_config(tmp_path) == SamConfig()


def test_a_file_changes_the_geometry(tmp_path: Path) -> None:
    values = {"num_hidden_layers": 2, "global_attn_indexes": [1], "use_rel_pos": True}
    (tmp_path / CONFIG).write_text(json.dumps(values), "utf-8")
    assert read_config(tmp_path) == SamConfig(num_hidden_layers=2, global_attn_indexes=(1,))


def test_relative_positions_are_those_of_a_window_or_of_all() -> None:
    shapes = tensors(SamConfig(num_hidden_layers=2, global_attn_indexes=(1,)), 128)
    assert shapes["seg_model.layers.0.attn.rel_pos_h"] == (2 * 14 - 1, 64)
    assert shapes["seg_model.layers.1.attn.rel_pos_h"] == (2 * 64 - 1, 64)


@pytest.mark.parametrize("values", [{"use_rel_pos": False}, {"qkv_bias": False}])
def test_another_layer_is_refused(values: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps(values), "utf-8")
    with pytest.raises(CheckpointError, match=f"{next(iter(values))} is "):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("global_attn_indexes", "0"),
        ("global_attn_indexes", [1, None]),
        ("global_attn_indexes", [-1]),
        ("global_attn_indexes", [24]),
        ("global_attn_indexes", [True]),
        ("patch_size", "appended"),
        ("patch_size", 14),
        ("image_size", 512),
        ("window_size", 0),
        ("window_size", 65),
        ("vision_config", {"hidden_size": 1280}),
        ("window_size", 14.0),
        ("mlp_dim", 2147483712),
        ("mlp_dim", None),
        ("num_hidden_layers", "\x1b[2J"),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 3),
        ("output_channels", 128),
        ("hidden_size", True),
        ("layer_norm_eps", -1e-6),
    ],
    ids=str,
)
def test_a_value_of_another_type_or_range_is_named(key: str, value: object, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({key: value}), "utf-8")
    with pytest.raises(CheckpointError, match=f"{key} is .*, expected ") as error:
        read_config(tmp_path)
    assert "\x1b" not in str(error.value)
