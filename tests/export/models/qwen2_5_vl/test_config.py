"""Configurations of Qwen2.5-VL that the graphs are written for, and others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from families import CONFIGS
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutate

from vpt_edge.export.attention import TARGETS
from vpt_edge.export.models import Model
from vpt_edge.export.spec import GraphOptions
from vpt_edge.runtime.errors import CheckpointError

CONFIG = {**CONFIGS["qwen2_5_vl"], "model_type": "qwen2_5_vl"}
VISION = CONFIG["vision_config"]
LARGE: dict[str, Any] = {  # the released 7B
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "model_type": "qwen2_5_vl",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vision_config": {"hidden_size": 1280, "in_chans": 3, "spatial_patch_size": 14},
    "vocab_size": 152064,
}


def read(folder: Path, **changes: Any) -> Model:
    vision = {**VISION, **changes.pop("vision", {})}
    given = {key: value for key, value in vision.items() if value is not None}
    return Model.read({**CONFIG, "vision_config": given, **changes}, folder)


def test_what_is_left_out_is_what_transformers_leaves_out(tmp_path: Path) -> None:
    model = Model.read(LARGE, tmp_path)
    assert model.reencoder is None
    tensors = model.tensors()
    assert tensors["visual.blocks.31.mlp.gate_proj.weight"] == (3420, 1280)
    assert tensors["visual.blocks.0.attn.qkv.bias"] == (3840,)
    assert tensors["visual.merger.mlp.2.weight"] == (3584, 5120)
    assert tensors["visual.patch_embed.proj.weight"] == (1280, 3, 2, 14, 14)
    assert "visual.blocks.0.norm1.bias" not in tensors
    assert tensors["lm_head.weight"] == (152064, 3584)
    assert model.tower.block() == {
        "name": "qwen2_5_vl",
        "head_dim": 80,
        "window": 4,
        "tokens_per_second": 4.0,
    }


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_5_vl_vision"])
def test_a_vision_encoder_is_called_after_the_model(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, vision={"model_type": name}) == read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"vision": {"fullatt_block_indexes": [3]}}, "expected indexes of 3 layers"),
        ({"vision": {"fullatt_block_indexes": [-1]}}, "fullatt_block_indexes is [-1]"),
        ({"vision": {"fullatt_block_indexes": 1}}, "fullatt_block_indexes is 1"),
        ({"vision": {"window_size": 27}}, "window_size is 27, expected a number from 28 to 1792"),
        ({"vision": {"window_size": 5000}}, "window_size is 5000"),
        ({"vision": {"num_heads": 3}}, "num_heads is 3, expected heads of a multiple of four"),
        ({"vision": {"num_heads": 32}}, "num_heads is 32"),
        ({"vision": {"hidden_act": "gelu"}}, "hidden_act is 'gelu', expected 'silu'"),
        ({"vision": {"out_hidden_size": 32}}, "out_hidden_size is 32, expected 64"),
        ({"vision": {"patch_size": 16}}, "patch_size is 16 and 14"),
        ({"vision": {"patch_size": 16, "spatial_patch_size": None}}, "patch_size is 16, expected"),
        ({"vision": {"hidden_size": None}}, "lacks vision_config.hidden_size"),
        ({"vision": {"embed_dim": 64}}, "embed_dim is 64, and Qwen2.5-VL has none"),
        ({"vision": {"deepstack_visual_indexes": [5]}}, "and Qwen2.5-VL has none"),
        ({"vision": {"model_type": "qwen2_vl"}}, "expected 'qwen2_5_vl' or one of its parts"),
        ({"vision_config": None}, "lacks vision_config"),
        ({"vision_config": [1]}, "vision_config is [1], expected an object"),
        ({"text_config": {"model_type": "qwen2_vl_text"}}, "expected 'qwen2_5_vl'"),
        ({"use_sliding_window": True}, "use_sliding_window is True"),
    ],
)
def test_another_model_is_refused(changes: dict[str, Any], found: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        read(tmp_path, **changes)
    assert found in str(error.value)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_config_is_refused_or_describes_a_model(data: st.DataObject) -> None:
    config = json.loads(json.dumps(CONFIG))
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(config, data)
    try:
        model = Model.read(config, Path("checkpoint"))
    except CheckpointError:
        return
    tensors = model.tensors()
    assert 0 < len(tensors) < 100_000
    assert all(type(size) is int for shape in tensors.values() for size in shape)
    specs = model.specs(GraphOptions(TARGETS["onnxruntime"], "float32", 64, 16), "embeddings")
    assert set(specs) == {"vision_encoder", "decoder"}
