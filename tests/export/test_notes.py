"""What the files of a checkpoint ask for in vain is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import MODELS, NAMES, Copy, refused, set_value
from golden import DEMO, needs_golden

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden

QWEN2_VL = (  # the beginning of its chat template
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful "
    "assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}"
)


def notes(folder: Path) -> str:
    return "\n".join(Checkpoint.open(str(folder)).notes)


@pytest.mark.parametrize("folder", [*(MODELS / name for name in NAMES), DEMO], ids=str)
def test_of_a_usual_checkpoint_there_is_nothing_to_tell(folder: Path) -> None:
    assert notes(folder) == ""


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("repetition_penalty", 1.05, "asks for repetition_penalty 1.05: ignored"),
        ("repetition_penalty", "1.05", "repetition_penalty '1.05'"),
        ("no_repeat_ngram_size", 3, "no_repeat_ngram_size 3"),
        ("num_beams", 4, "num_beams 4"),
        ("suppress_tokens", [5], "suppress_tokens [5]"),
        ("bad_words_ids", [[5, 6]], "bad_words_ids [[5, 6]]"),
        ("min_new_tokens", 10, "min_new_tokens 10"),
        ("eos_token_id", [3], "ends an answer with the ids [3]"),
        ("eos_token_id", 3, "ends an answer with the ids [3]"),
    ],
)
def test_settings_of_generation_are_told(key: str, value: Any, told: str, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "generation_config.json", key, value)
    assert told in notes(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("repetition_penalty", None),
        ("repetition_penalty", 1),
        ("suppress_tokens", []),
        ("eos_token_id", 958),
        ("eos_token_id", None),
        ("temperature", 0.7),  # the largest is taken at every temperature
    ],
)
def test_settings_that_change_nothing_are_not_told(key: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "generation_config.json", key, value)
    assert notes(folder) == ""


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_another_chat_template_is_told(name: str, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, name, "chat_template", "[INST] {{ message['content'] }} [/INST]")
    assert f"the chat template in {name} lacks '<|im_start|>' and '<|im_end|>' and" in notes(folder)
    set_value(folder, name, "chat_template", QWEN2_VL)
    assert notes(folder) == ""


def test_another_system_prompt_is_told(copy: Copy) -> None:
    folder = copy("clip")
    other = QWEN2_VL.replace("a helpful assistant", "a pirate")
    (folder / "chat_template.jinja").write_text(other, "utf-8")
    assert "chat_template.jinja lacks 'You are a helpful assistant.'" in notes(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    assert "chat_template.jinja is not text" in refused(folder)


def test_other_end_tokens_are_told(copy: Copy) -> None:
    folder = copy("clip")
    special = ["<|im_end|>", "<|im_start|>"]
    set_value(folder, "tokenizer_config.json", "additional_special_tokens", special)
    assert "differ by <|box_end|>, <|box_start|>, <|clip_image_pad|>" in notes(folder)


def test_cleaned_spaces_are_told(copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "tokenizer_config.json", "clean_up_tokenization_spaces", True)
    assert "clean_up_tokenization_spaces: ignored" in notes(folder)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("truncation", {"max_length": 6, "stride": 0}, "carries truncation: ignored"),
        ("padding", {"strategy": {"Fixed": 40}}, "carries padding: ignored"),
    ],
)
def test_what_a_padded_training_left_is_told(key: str, value: Any, told: str, copy: Copy) -> None:
    folder = copy("clip")
    full: dict[str, dict[str, Any]] = {
        "truncation": {"direction": "Right", "strategy": "LongestFirst"},
        "padding": {"direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "!"},
    }
    more: dict[str, Any] = {"pad_to_multiple_of": None} if key == "padding" else {}
    set_value(folder, "tokenizer.json", key, {**full[key], **more, **value})
    assert told in notes(folder)


@pytest.mark.parametrize(("value", "told"), [(0.5, "carries a dropout of 0.5: ignored"), (0.0, "")])
def test_dropout_of_the_tokenizer_is_told(value: float, told: str, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "tokenizer.json", "model.dropout", value)
    assert told in notes(folder)
    assert bool(told) == bool(notes(folder))
