"""A checkpoint's tokenizer, and files that must say the same of its tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Copy, refused, set_value
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden

X_0 = "973"  # the id of <|x_0|>
CONFIG = "tokenizer_config.json"


def change_tokens(folder: Path, change: Any) -> None:
    """Change added_tokens_decoder of tokenizer_config.json."""
    file = folder / CONFIG
    data = json.loads(file.read_text("utf-8"))
    change(data["added_tokens_decoder"])
    file.write_text(json.dumps(data), "utf-8")


def test_a_token_that_the_tokenizer_lacks_is_named(copy: Copy) -> None:
    folder = copy("clip")
    change_tokens(
        folder, lambda tokens: tokens.update({"992": {**tokens[X_0], "content": "<new>"}})
    )
    text = refused(folder)
    assert f"{CONFIG}: token 992 is '<new>', expected none as in tokenizer.json" in text
    assert "save_pretrained" in text


def test_trigger_tokens_in_the_config_alone_make_no_alignment_checkpoint(copy: Copy) -> None:
    folder = copy("clip")
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] <= 970]
    file.write_text(json.dumps(data), "utf-8")
    assert f"{CONFIG}: token 971 is " in refused(folder)


@pytest.mark.parametrize(
    ("flag", "value"), [("special", True), ("lstrip", True), ("single_word", "false")]
)
def test_a_token_with_another_flag_is_named(flag: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    change_tokens(folder, lambda tokens: tokens[X_0].update({flag: value}))
    assert f"token 973, <|x_0|>: {flag} is {value!r}, expected False as in" in refused(folder)


@pytest.mark.parametrize(
    ("token", "special", "told"),
    [
        ("<|x_0|>", True, "the tokenizer decodes '<|x_0|>' to ''"),
        ("<|im_end|>", False, "the tokenizer decodes the end of a turn to '<|im_end|>'"),
    ],
)
def test_a_flag_that_hides_a_word_of_the_loop_is_refused_before_the_work(
    token: str, special: bool, told: str, copy: Copy
) -> None:
    folder = copy("clip")
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    for entry in data["added_tokens"]:
        if entry["content"] == token:
            entry["special"] = special
    file.write_text(json.dumps(data), "utf-8")
    set_value(folder, CONFIG, "added_tokens_decoder", None)
    assert f"tokenizer.json: {told}" in refused(folder)


def test_two_tokens_of_one_id_are_named(copy: Copy) -> None:
    folder = copy("clip")
    change_tokens(folder, lambda tokens: tokens[X_0].update(content="<|x_1|>"))
    assert "token 973 is '<|x_1|>', expected '<|x_0|>' as in tokenizer.json" in refused(folder)


@pytest.mark.parametrize("value", [[], "x", {"x": {}}, {"1": []}, {"1": None}, {"-1": {}}])
def test_a_list_of_something_else_is_refused(value: Any, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, CONFIG, "added_tokens_decoder", value)
    assert "added_tokens_decoder" in refused(folder)


def test_the_older_list_counts_where_the_newer_is_absent(copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "added_tokens.json", "<|x_0|>", 5)
    Checkpoint.open(str(folder))
    set_value(folder, CONFIG, "added_tokens_decoder", None)
    assert "added_tokens.json: '<|x_0|>' is 5, expected 973" in refused(folder)


def test_a_token_that_is_no_text_in_the_older_list_is_named(copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, CONFIG, "added_tokens_decoder", None)
    set_value(folder, "added_tokens.json", "\ud800", 5)
    assert r"added_tokens.json: '\ud800' is 5, expected None" in refused(folder)


def test_a_token_without_a_row_of_the_table_is_named(copy: Copy) -> None:
    folder = copy("clip")
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    data["added_tokens"].append({**data["added_tokens"][-1], "id": 5000, "content": "<far>"})
    data["model"]["vocab"]["<far>"] = 5000
    file.write_text(json.dumps(data), "utf-8")
    assert "has the token '<far>' of id 5000, but config.json a vocab_size of 1024" in refused(
        folder
    )


@pytest.mark.parametrize("value", ["<new>", {"content": "<new>", "special": True}])
@pytest.mark.parametrize("key", ["pad_token", "unk_token", "mask_token"])
def test_a_special_token_that_the_config_alone_names_is_refused(
    key: str, value: Any, copy: Copy
) -> None:
    folder = copy("clip")
    set_value(folder, CONFIG, key, value)
    assert f"{CONFIG}: {key} names '<new>', which is not a token of tokenizer.json" in refused(
        folder
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("additional_special_tokens", ["<|im_end|>", "<new>"]),
        ("extra_special_tokens", ["<new>"]),
        ("extra_special_tokens", {"audio_token": "<new>"}),
    ],
)
def test_special_tokens_in_a_list_of_the_config_alone_are_refused(
    key: str, value: Any, copy: Copy
) -> None:
    folder = copy("clip")
    set_value(folder, CONFIG, key, value)
    assert f"{key} names '<new>', which is not a token of tokenizer.json; let" in refused(folder)


def test_the_older_map_of_special_tokens_counts_where_the_newer_list_is_absent(copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, "special_tokens_map.json", "mask_token", "<mask>")
    Checkpoint.open(str(folder))
    set_value(folder, CONFIG, "added_tokens_decoder", None)
    assert "special_tokens_map.json: mask_token names '<mask>'" in refused(folder)


def test_a_space_before_every_text_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, CONFIG, "add_prefix_space", None)
    Checkpoint.open(str(folder))
    set_value(folder, CONFIG, "add_prefix_space", True)
    assert f"{CONFIG}: add_prefix_space is True, expected false" in refused(folder)


def test_a_token_that_is_looked_for_before_the_text_is_normalized_is_named(copy: Copy) -> None:
    folder = copy("clip")
    change_tokens(folder, lambda tokens: tokens[X_0].update(normalized=False))
    assert "token 973, <|x_0|>: normalized is False, expected True" in refused(folder)
    change_tokens(folder, lambda tokens: [token.pop("normalized") for token in tokens.values()])
    Checkpoint.open(str(folder))
