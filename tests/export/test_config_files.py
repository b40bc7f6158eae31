"""Files of JSON that are broken, and constants that they must have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Copy, refused
from golden import needs_golden

from vpt_edge.export.config_files import expect, expect_if_given, is_same, read_json
from vpt_edge.runtime.errors import CheckpointError


def problem(file: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_json(file)
    return error.value.problem


@needs_golden
@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_broken_config_is_refused(text: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "config.json").write_text(text, "utf-8")
    assert "config.json" in refused(folder)


@pytest.mark.parametrize("depth", [70, 500, 900, 5_000, 200_000])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_deep_json_is_refused(depth: int, left: str, right: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"a":' + left * depth + "1" + right * depth + "}", "utf-8")
    assert str(file) in problem(file)


@needs_golden
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "detection_model_config.json",
        "detection_preprocessor_config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "chat_template.json",
        "tokenizer.json",
        "model.safetensors.index.json",
    ],
)
def test_deep_json_is_refused_in_every_file(name: str, copy: Copy) -> None:
    folder = copy("det")
    (folder / "model.safetensors").unlink()
    (folder / name).write_text('{"a":' + "[" * 5000 + "]" * 5000 + "}", "utf-8")
    assert name in refused(folder)


def test_a_number_of_too_many_digits_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"hidden_size": ' + "9" * 10_000 + "}", "utf-8")
    assert "is not JSON" in problem(file)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")  # it would be waited for
    (tmp_path / "generation_config.json").mkdir()
    for name in ("config.json", "generation_config.json"):
        assert "is not a file" in problem(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (3, 3),
        (0.5, 0.5),
        (1, 1.0),
        (0.003921569, 1 / 255),
        ([0.48145466, 1], [0.48145466, 1]),
        ({"a": [1]}, {"a": [1]}),
    ],
)
def test_the_same_value(value: Any, expected: Any) -> None:
    assert is_same(value, expected)
    expect({"key": value}, {"key": expected}, Path("file"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, True),
        (0, False),
        (True, 1),
        (1.0, 1),
        ("1", 1),
        (None, 1),
        (10**400, 0.5),
        (float("nan"), 0.5),
        (True, 1.0),
        ([0.5], [0.5, 0.5]),
        (0.5, [0.5]),
        ({"a": 1, "b": 2}, {"a": 1}),
        ([["deep"]], "deep"),
    ],
)
def test_another_value(value: Any, expected: Any) -> None:
    assert not is_same(value, expected)
    with pytest.raises(CheckpointError, match="key is "):
        expect_if_given({"key": value}, {"key": expected}, Path("file"))
    expect_if_given({}, {"key": expected}, Path("file"))
