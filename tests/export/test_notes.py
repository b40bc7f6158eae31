"""What the files of a checkpoint ask for in vain is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import MODELS, NAMES, Copy, set_value
from golden import TAGS, needs_golden

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden


TEXT = {"Sequence": {"id": "A", "type_id": 0}}  # in a template of a tokenizer


def notes(folder: Path) -> str:
    return "\n".join(Checkpoint.open(str(folder)).notes)


@pytest.mark.parametrize("folder", [*(MODELS / name for name in NAMES), TAGS], ids=str)
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
        ("stop_strings", ["."], "stop_strings ['.']"),
        ("guidance_scale", 3.0, "guidance_scale 3.0"),
        ("eos_token_id", [3], "ends an answer with the ids [3]"),
        ("eos_token_id", 3, "ends an answer with the ids [3]"),
    ],
)
def test_settings_of_generation_are_told(key: str, value: Any, told: str, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "generation_config.json", key, value)
    assert told in notes(folder)
    set_value(folder, "generation_config.json", key, None)
    assert notes(folder) == ""
    set_value(folder, "config.json", key, value)  # where older versions have it
    assert told in notes(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("repetition_penalty", None),
        ("repetition_penalty", 1),
        ("num_beams", False),
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


def test_other_end_tokens_are_told(copy: Copy) -> None:
    folder = copy("clip")
    special = ["<|im_end|>", "<|im_start|>"]
    set_value(folder, "tokenizer_config.json", "additional_special_tokens", special)
    assert "differ by <|box_end|>, <|box_start|>, <|clip_image_pad|>" in notes(folder)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("clean_up_tokenization_spaces", True, "for clean_up_tokenization_spaces: ignored"),
        ("split_special_tokens", True, "for split_special_tokens: ignored"),
        ("split_special_tokens", "yes", "for split_special_tokens 'yes': ignored"),
        ("add_bos_token", True, "for add_bos_token: ignored"),
        ("eos_token", "<|x_0|>", "for eos_token '<|x_0|>': ignored"),
        ("eos_token", {"content": "<|x_0|>"}, "for eos_token '<|x_0|>': ignored"),
        ("eos_token", {"content": "<|im_end|>", "lstrip": False}, ""),
        ("split_special_tokens", None, ""),
        ("extra_special_tokens", ["<|im_end|>"], "extra_special_tokens of tokenizer_config.json"),
        ("extra_special_tokens", {"image_token": "<|image_pad|>"}, "differ by <|box_end|>"),
    ],
)
def test_settings_of_the_tokenizer_are_told(key: str, value: Any, told: str, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "tokenizer_config.json", key, value)
    assert told in notes(folder)
    assert bool(told) == bool(notes(folder))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([{"SpecialToken": {"id": "!", "type_id": 0}}, TEXT], "adds tokens around a text"),
        ([TEXT], ""),
    ],
)
def test_tokens_around_a_text_are_told(value: Any, told: str, copy: Copy) -> None:
    folder = copy("clip")
    special = {"!": {"id": "!", "ids": [0], "tokens": ["!"]}} if told else {}
    step = {"type": "TemplateProcessing", "pair": [], "special_tokens": special}
    step["single"] = value
    set_value(folder, "tokenizer.json", "post_processor", step)
    assert told in notes(folder)
    assert bool(told) == bool(notes(folder))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("clip_action_id", 5, "has the clip_action_id 5, tokenizer.json <|clip_action|> as 990"),
        ("para_start_id", 5, "has the para_start_id 5"),
        ("seg_action_id", 5, "has the seg_action_id 5, tokenizer.json <|seg_action|> as None"),
        ("clip_action_id", None, ""),
    ],
)
def test_ids_that_nobody_reads_are_told(key: str, value: Any, told: str, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "config.json", key, value)
    assert told in notes(folder)
    assert bool(told) == bool(notes(folder))


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


def test_weights_of_two_forms_are_told(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "pytorch_model.bin.index.json").write_text("{}", "utf-8")
    assert "holds model.safetensors and pytorch_model.bin: the former counts" in notes(folder)


def test_code_beside_the_weights_is_told(copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "config.json", "auto_map", {"AutoModel": "modeling_vpt.Model"})
    assert "config.json names code of its own (auto_map): not run" in notes(folder)


def test_an_older_file_of_words_that_differs_is_told(copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "vocab.json", "zebra", 5)
    assert "vocab.json and tokenizer.json have other words: the latter counts" in notes(folder)
    (folder / "vocab.json").write_text("{", "utf-8")
    assert "vocab.json cannot be read: tokenizer.json counts" in notes(folder)
    (folder / "vocab.json").unlink()
    assert notes(folder) == ""


def test_an_alignment_that_the_tokens_deny_is_told(copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "config.json", "alignment", True)
    assert "config.json has alignment True, but tokenizer.json has the tokens that" in notes(folder)


def test_tokens_that_the_config_lacks_are_told(copy: Copy) -> None:
    folder = copy("clip")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    del settings["added_tokens_decoder"]["973"]
    file.write_text(json.dumps(settings), "utf-8")
    assert "tokenizer.json has tokens that tokenizer_config.json lacks ('<|x_0|>')" in notes(folder)
    set_value(folder, "tokenizer_config.json", "added_tokens_decoder", None)
    assert notes(folder) == ""
