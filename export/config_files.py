"""The files of JSON beside a checkpoint's weights, and what they must say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vpt_edge.runtime.errors import CheckpointError

CONFIG = "config.json"
DOWNLOAD_AGAIN = "download or copy the checkpoint again"


def read_json(path: Path) -> dict[str, Any]:
    """The object that ``path`` holds. Raises CheckpointError where it holds none."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing",
            "a checkpoint folder holds config.json, tokenizer.json and weights",
        ) from None
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not JSON ({error})", "download or copy it again"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(
            f"{path} holds {type(data).__name__}, expected an object", "download or copy it again"
        )
    return data


def read_optional(path: Path) -> dict[str, Any]:
    """As ``read_json``; of a file that is not there, an object without keys."""
    if not path.exists():
        return {}
    return read_json(path)


def expect(data: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError where a value of ``data`` is not the one that the graphs are written
    for.
    """
    wrong = []
    for key, value in expected.items():
        if data.get(key) != value:
            wrong.append(f"{key} is {data.get(key)!r}, expected {value!r}")
    if wrong:
        raise CheckpointError(
            f"{path} describes a model that vpt-edge cannot export: {'; '.join(wrong)}"
        )


def expect_if_given(data: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """As ``expect``, of those keys alone that ``data`` has."""
    given = {key: value for key, value in expected.items() if key in data}
    expect(data, given, path)


def known_values(data: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Those values of ``data`` whose keys are ``known``, lists as tuples."""
    values = {}
    for key in known:
        if key in data:
            value = data[key]
            values[key] = tuple(value) if isinstance(value, list) else value
    return values
