"""Every tensor of the released checkpoints, by name and shape."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from checkpoints import MODELS
from golden import SHARED, needs_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutate

from vpt_edge.export.config_files import read_json
from vpt_edge.export.foreign import check_quantized
from vpt_edge.export.models import Model
from vpt_edge.export.models.vpt import KINDS, reencode_side
from vpt_edge.export.tokenizer_files import check_ids
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


TRAINED = {  # what is in config.json besides (PROTOCOL 1.4)
    **COMMON,
    "alignment": False,
    "architectures": ["VPT_Qwen2VLForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "image_token_id": 151655,
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "num_inner_forward_run": 2,
    "para_end_id": 151645,
    "para_mask_id": 1,
    "para_mask_ratio": 0.5,
    "para_start_id": 151644,
    "projector_scale": 1,
    "sliding_window": 32768,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.2",
    "use_cache": True,
    "use_sliding_window": False,
    "video_token_id": 151656,
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
    "vision_token_id": 151654,
}
FOUND = {"model_type": "qwen2_vl", "in_chans": 3, "spatial_patch_size": 14}  # of each vision_config


def released_config(release: str, alignment: bool) -> dict[str, Any]:
    """config.json of a released checkpoint, as PROTOCOL describes it."""
    kind, changes = RELEASES[release]
    config = {**TRAINED, **changes, "alignment": alignment, "model_type": "qwen2_vl_vpt"}
    config["vision_config"] = {**FOUND, **changes["vision_config"]}
    config["vision_encoder_ls"] = [ENCODERS[kind]]
    config["tie_word_embeddings"] = release.startswith("2b")
    for each in ENCODERS:
        is_own = each == kind
        config[f"{each}_image_token_id"] = 151657 if is_own else None
        config[f"{each}_action_start_id"] = 151676 if is_own and not alignment else None
        config[f"{each}_action_id"] = 151677 if is_own and not alignment else None
    return config


def named_ids(config: dict[str, Any], tower: Any) -> dict[str, int]:
    """What the released tokenizer has for them (PROTOCOL 1.3)."""
    ids = {"<|image_pad|>": 151655, "<|vision_start|>": 151652}
    return {key: ids[token] for key, token in tower.token_ids.items()}


@pytest.mark.parametrize("alignment", [False, True])
@pytest.mark.parametrize("release", RELEASES)
def test_the_released_configs_are_taken(release: str, alignment: bool, tmp_path: Path) -> None:
    config = released_config(release, alignment)
    tower = Model.read(config, tmp_path).tower
    size = config["vocab_size"]
    check_ids(config, named_ids(config, tower), size, tmp_path / "config.json")
    check_quantized(config, tmp_path)
    assert (tower.text.num_hidden_layers, tower.text.rope_theta) == (28, 1e6)


FILES = {
    "clip": ["config.json", "preprocessor_config.json"],
    "det": ["config.json", "detection_model_config.json", "detection_preprocessor_config.json"],
    "seg": ["config.json", "seg_model_config.json", "seg_preprocessor_config.json"],
}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_whatever_a_config_says_it_is_read_or_named(data: st.DataObject) -> None:
    """A mutation that is taken leaves a list of tensors that can be held against the file."""
    name = data.draw(st.sampled_from(sorted(FILES)))
    configs = {file: json.loads((MODELS / name / file).read_text("utf-8")) for file in FILES[name]}
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(configs[data.draw(st.sampled_from(FILES[name]))], data)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for file, config in configs.items():
            (folder / file).write_text(json.dumps(config), "utf-8")
        try:
            model = Model.read(read_json(folder / "config.json"), folder)
            limits = model.image_limits(folder)
            assert model.reencoder is not None
            reencode_side(limits, model.reencoder.kind, folder)
        except CheckpointError:
            return
    tensors = model.tensors()
    assert 0 < len(tensors) < 100_000
    assert all(type(size) is int for shape in tensors.values() for size in shape)
    assert 0 < limits.min_pixels <= limits.max_pixels
