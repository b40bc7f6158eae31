"""The files of JSON beside a checkpoint's weights, and what they must say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import brief, parse_json

CONFIG = "config.json"
DOWNLOAD_AGAIN = "download or copy the checkpoint again"
MOST_BYTES = 1 << 28  # an index of a million tensors has less
MOST_LEVELS = 64  # one inside another
CLOSE = 1e-6  # how far a constant may be from the runtime's: files are rounded to nine digits


def read_json(path: Path) -> dict[str, Any]:
    """The object that ``path`` holds. Raises CheckpointError where it holds none."""
    if not path.exists():
        raise CheckpointError(
            f"{path} is missing",
            "a checkpoint folder holds config.json, tokenizer.json and weights",
        )
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise CheckpointError(
            f"{path} is not a file of up to {MOST_BYTES >> 20} MiB", "download or copy it again"
        )
    try:
        data = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not JSON ({error})", "download or copy it again"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(
            f"{path} holds {type(data).__name__}, expected an object", "download or copy it again"
        )
    if _is_deep(data):
        raise CheckpointError(
            f"{path} has more than {MOST_LEVELS} levels of lists and objects",
            "download or copy it again",
        )
    return data


def _is_deep(data: Any) -> bool:
    """Whether recursion over ``data`` may not end well."""
    level = [data]
    for _ in range(MOST_LEVELS):
        inner = list[Any]()
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        level = inner
    return bool(level)


def read_optional(path: Path) -> dict[str, Any]:
    """As ``read_json``; of a file that is not there, an object without keys."""
    if not path.exists():
        return {}
    return read_json(path)


def levels(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """``config``, and the objects in it, such as text_config."""
    yield config
    for value in config.values():
        if isinstance(value, dict):
            yield value


def expect(data: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError where a value of ``data`` is not the one that the graphs are written
    for.
    """
    wrong = []
    for key, value in expected.items():
        if not is_same(data.get(key), value):
            wrong.append(f"{key} is {brief(data.get(key))}, expected {value!r}")
    if wrong:
        raise CheckpointError(
            f"{path} describes a model that vpt-edge cannot export: {'; '.join(wrong)}"
        )


def expect_if_given(data: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """As ``expect``, of those keys alone that ``data`` has."""
    given = {key: value for key, value in expected.items() if key in data}
    expect(data, given, path)


def expect_unless_null(data: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """As ``expect_if_given``, where null asks for nothing."""
    expect_if_given(
        {key: value for key, value in data.items() if value is not None}, expected, path
    )


def is_same(value: Any, expected: Any) -> bool:
    """Whether two values of JSON are one: true is not 1, and 1.0 is not 1; floats to six digits."""
    if isinstance(expected, dict):
        if not isinstance(value, dict) or value.keys() != expected.keys():
            return False
        return all(is_same(value[key], item) for key, item in expected.items())
    if isinstance(expected, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(expected):
            return False
        return all(is_same(item, other) for item, other in zip(value, expected, strict=True))
    if isinstance(expected, float) and type(value) in (int, float):
        margin = CLOSE * abs(expected)
        return expected - margin <= value <= expected + margin
    return type(value) is type(expected) and bool(value == expected)
