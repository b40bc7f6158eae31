"""A tokenizer splits text as Qwen2's does, or is refused: transformers 4 and 5 would disagree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import MODELS, Copy, refused
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden

NFC = {"type": "NFC"}
SIGN = {"type": "Replace", "pattern": {"String": "sign"}, "content": "dog"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPACES = {"type": "Strip", "strip_left": True, "strip_right": True}


def change_tokenizer(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    change(data)
    file.write_text(json.dumps(data), "utf-8")


def split(data: dict[str, Any]) -> dict[str, Any]:
    """The step of the regex."""
    step: dict[str, Any] = data["pre_tokenizer"]["pretokenizers"][0]
    return step


def byte_level(data: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = data["pre_tokenizer"]["pretokenizers"][1]
    return step


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        *({"type": name} for name in ("Lowercase", "NFKC", "NFD", "StripAccents", "Nmt")),
        SPACES,
        SIGN,
        {"type": "Prepend", "prepend": "_"},
        {"type": "Sequence", "normalizers": [NFC, SIGN]},
        {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, NFC]},
        {"type": "Sequence", "normalizers": []},
    ],
    ids=str,
)
def test_another_normalizer_is_refused(normalizer: Any, copy: Copy) -> None:
    folder = copy("clip")
    change_tokenizer(folder, lambda data: data.update(normalizer=normalizer))
    text = refused(folder)
    assert "tokenizer.json: normalizer is " in text
    assert "expected Qwen2's (NFC); versions of transformers read such a file differently" in text


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(pre_tokenizer=None),
        lambda data: data.update(pre_tokenizer={"type": "Whitespace"}),
        lambda data: data.update(pre_tokenizer=byte_level(data)),
        lambda data: data["pre_tokenizer"]["pretokenizers"].reverse(),
        lambda data: data["pre_tokenizer"]["pretokenizers"].insert(1, {"type": "Whitespace"}),
        lambda data: byte_level(data).update(add_prefix_space=True),
        lambda data: byte_level(data).update(use_regex=True),
        lambda data: split(data).update(behavior="Removed"),
        lambda data: split(data).update(invert=True),
        lambda data: split(data).update(pattern={"String": " "}),
        lambda data: split(data).update(pattern={"Regex": split(data)["pattern"]["Regex"][:-4]}),
    ],
)
def test_another_way_to_split_is_refused(change: Callable[[Any], None], copy: Copy) -> None:
    folder = copy("clip")
    change_tokenizer(folder, change)
    assert "tokenizer.json: pre_tokenizer is " in refused(folder)


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        {"type": "Fuse"},
        {"type": "ByteFallback"},
        {"type": "Sequence", "decoders": [BYTES, SIGN]},
    ],
)
def test_another_decoder_is_refused(decoder: Any, copy: Copy) -> None:
    folder = copy("clip")
    change_tokenizer(folder, lambda data: data.update(decoder=decoder))
    assert "tokenizer.json: decoder is " in refused(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unk_token", "<|endoftext|>"),
        ("byte_fallback", True),
        ("ignore_merges", True),
        ("end_of_word_suffix", "!"),
    ],
)
def test_another_model_is_refused(key: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    change_tokenizer(folder, lambda data: data["model"].update({key: value}))
    assert f"{key} of its model is {value!r}, expected " in refused(folder)


def same(data: dict[str, Any]) -> None:
    """As other versions write it."""
    data["normalizer"] = {"type": "Sequence", "normalizers": [NFC]}
    data["decoder"] = {"type": "Sequence", "decoders": [BYTES]}
    data["post_processor"] = None
    byte_level(data)["trim_offsets"] = False
    data["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    for key in ("ignore_merges", "byte_fallback", "unk_token"):
        del data["model"][key]


def test_what_versions_write_otherwise_is_taken(copy: Copy) -> None:
    folder = copy("clip")
    change_tokenizer(folder, same)
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.notes == ()
    assert checkpoint.perception.tokens == Checkpoint.open(str(MODELS / "clip")).perception.tokens
