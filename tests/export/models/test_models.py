"""Every tensor of the released checkpoints, by name and shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden import SHARED, needs_golden

from vpt_edge.export.models import Model
from vpt_edge.export.models.vpt import KINDS
from vpt_edge.runtime.errors import CheckpointError

KEYS = SHARED / "checkpoint_keys"
SMALL = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
}
LARGE = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
RELEASES: dict[str, tuple[str, dict[str, Any]]] = {
    "2b_clip": ("clip", {**SMALL, "vocab_size": 151936, "vision_config": {"hidden_size": 1536}}),
    "2b_det": (
        "detection",
        {**SMALL, "vocab_size": 151936, "vision_config": {"hidden_size": 1536}},
    ),
    "2b_seg": ("seg", {**SMALL, "vocab_size": 151936, "vision_config": {"hidden_size": 1536}}),
    "7b_clip": (
        "clip",
        {**LARGE, "vocab_size": 152064, "vision_config": {}},
    ),  # values of default are left out
}
COMMON = {
    "hidden_act": "silu",
    "num_hidden_layers": 28,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": [16, 24, 24]},
    "tie_word_embeddings": True,
}
ENCODERS = {kind: encoder for encoder, kind in KINDS.items()}

pytestmark = needs_golden


@pytest.mark.parametrize("release", RELEASES)
def test_the_released_checkpoints_have_the_expected_tensors(release: str, tmp_path: Path) -> None:
    kind, changes = RELEASES[release]
    names = {"model_type": "qwen2_vl_vpt", "vision_encoder_ls": [ENCODERS[kind]]}
    tensors = Model.read({**COMMON, **names, **changes}, tmp_path).tensors()
    expected = json.loads((KEYS / f"state_dict_{release}.json").read_text("utf-8"))
    assert {name: list(shape) for name, shape in tensors.items()} == expected


def test_of_an_unknown_model_type_the_known_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'qwen9_vl_vpt', expected 'qwen2_vl_vpt'"):
        Model.read({"model_type": "qwen9_vl_vpt"}, tmp_path)
