"""DINOv2's geometry, and its position table at another size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vpt_edge.export.models.dinov2 import CONFIG, Dinov2Config, read_config, resample_positions
from vpt_edge.runtime.errors import CheckpointError


def test_without_a_file_it_is_the_one_that_the_authors_use(tmp_path: Path) -> None:
    assert read_config(tmp_path) == Dinov2Config()


def test_a_file_changes_the_geometry(tmp_path: Path) -> None:
    values = {"hidden_size": 32, "num_hidden_layers": 2, "qkv_bias": True, "model_type": "dinov2"}
    (tmp_path / CONFIG).write_text(json.dumps(values), "utf-8")
    assert read_config(tmp_path) == Dinov2Config(hidden_size=32, num_hidden_layers=2)


@pytest.mark.parametrize("values", [{"use_swiglu_ffn": True}, {"hidden_act": "silu"}])
def test_another_layer_is_refused(values: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps(values), "utf-8")
    with pytest.raises(CheckpointError, match=f"{next(iter(values))} is "):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", [None]),
        ("hidden_size", 1e308),
        ("hidden_size", "int4"),
        ("num_hidden_layers", "../../etc/passwd"),
        ("num_hidden_layers", 2147483650),
        ("num_hidden_layers", 0),
        ("num_attention_heads", 5),
        ("num_attention_heads", 0),
        ("mlp_ratio", "int64"),
        ("mlp_ratio", -4),
        ("patch_size", "A" * 100_000),
        ("patch_size", 16),
        ("image_size", 10**18),
        ("image_size", 0),
        ("layer_norm_eps", float("inf")),
        ("layer_norm_eps", 0),
        ("num_channels", 4),
        ("qkv_bias", 1),
        ("use_swiglu_ffn", "false"),
        ("model_type", "dinov2_with_registers"),
        ("num_register_tokens", 4),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_value_of_another_type_or_range_is_named(key: str, value: object, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({key: value}), "utf-8")
    with pytest.raises(CheckpointError, match=f"{key} is .*, expected ") as error:
        read_config(tmp_path)
    assert len(str(error.value)) < 400


def test_positions_keep_their_class_token_and_their_corners_apart() -> None:
    table = torch.cat((torch.full((1, 1, 1), 7.0), torch.arange(16.0).view(1, 16, 1)), dim=1)
    assert torch.equal(resample_positions(table, 4), table)
    small = resample_positions(table, 2)
    assert small.shape == (1, 5, 1)
    assert small[0, 0] == 7
    patches = small[0, 1:, 0]
    assert torch.equal(patches, patches.sort().values)
