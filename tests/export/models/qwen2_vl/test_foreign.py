"""Keys of other models in config.json: what asks for something is refused, what asks for nothing is
taken.
"""

from __future__ import annotations

from typing import Any

import pytest
from checkpoints import MODELS, Copy, change_config, refused, set_value
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("logit_soft_cap", 30),
        ("query_pre_attn_scalar", 256),
        ("attention_multiplier", 0.015),
        ("residual_multiplier", 0.22),
        ("logits_scaling", 8.0),
        ("scale_emb", 12),
        ("use_qk_norm", True),
        ("clip_qkv", 8.0),
        ("attention_chunk_size", 8192),
        ("num_experts", 8),
        ("mlp_bias", True),
        ("hidden_activation", "gelu_pytorch_tanh"),
        ("is_encoder_decoder", True),
        ("pruned_heads", {"1": [0]}),
        ("vision_config.window_size", 112),
        ("vision_config.fullatt_block_indexes", [7, 15, 23, 31]),
        ("vision_config.tokens_per_second", 2),
        ("vision_config.out_hidden_size", 2048),
        ("vision_config.intermediate_size", 3420),
        ("vision_config.deepstack_visual_indexes", [5, 11]),
        ("vision_config.layer_norm_eps", 1e-5),
        ("vision_config.rope_parameters", {"rope_type": "axial", "rope_theta": 500.0}),
        ("vision_config.rope_parameters", {"rope_type": "yarn", "rope_theta": 10000.0}),
        ("vision_config.model_type", "qwen2_5_vl"),
        ("vision_config.model_type", ["qwen2_vl"]),
    ],
    ids=str,
)
def test_what_another_model_computes_is_refused(key: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "config.json", key, value)
    text = refused(folder)
    assert "describes a model that vpt-edge cannot export: " in text
    assert key.rpartition(".")[2] in text


@pytest.mark.parametrize("name", ["qwen2_5_vl_text", "llama", "", 2])
def test_a_language_model_of_another_name_is_refused(name: Any, copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, text_config={"model_type": name})
    assert f"text_config.model_type is {name!r}, expected 'qwen2_vl'" in refused(folder)


def test_keys_of_a_nested_text_count(copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, text_config={"final_logit_softcapping": 30.0})
    assert "final_logit_softcapping is 30.0, and Qwen2-VL has none" in refused(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_logit_softcapping", None),
        ("final_logit_softcapping", False),
        ("attention_multiplier", 1),
        ("logits_scaling", 1.0),
        ("use_qk_norm", False),
        ("num_experts", 0),
        ("pruned_heads", {}),
        ("hidden_activation", "silu"),
        ("attention_bias", True),  # as Qwen2 has it; the tensors tell
        ("never_heard_of", 5),
        ("vision_config.window_size", None),
        ("vision_config.fullatt_block_indexes", []),
        ("vision_config.intermediate_size", 256),
        ("vision_config.intermediate_size", None),
        ("vision_config.out_hidden_size", 64),
        ("vision_config.layer_norm_eps", 1e-6),
        ("vision_config.model_type", "qwen2_vl_vision"),
        ("vision_config.model_type", None),
        ("vision_config.rope_parameters", {"rope_type": "axial", "rope_theta": 10000.0}),
        ("text_config", {"model_type": "qwen2_vl_text"}),
        ("text_config", {"model_type": "qwen2_vl"}),
    ],
    ids=str,
)
def test_what_asks_for_nothing_is_taken(key: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "config.json", key, value)
    assert Checkpoint.open(str(folder)).model == Checkpoint.open(str(MODELS / "clip")).model


@pytest.mark.parametrize("key", ["image_token_id", "vision_start_token_id"])
def test_ids_in_a_nested_text_are_held_against_the_tokenizer(key: str, copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, text_config={key: 5})
    assert f"{key} is 5, expected " in refused(folder)
    change_config(folder, text_config={"eos_token_id": 10**6})
    assert "eos_token_id is 1000000, expected ids from 0 to 1023" in refused(folder)


def test_an_end_in_a_nested_text_is_told(copy: Copy) -> None:
    folder = copy("clip")
    change_config(folder, text_config={"eos_token_id": 5, "clip_action_id": 7})
    notes = Checkpoint.open(str(folder)).notes
    assert [note.partition(":")[0] for note in notes] == [
        "config.json ends an answer with the ids [5]",
        "config.json has the clip_action_id 7, tokenizer.json <|clip_action|> as 990",
    ]
