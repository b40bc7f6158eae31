"""JSON as dataclasses: unknown keys, missing keys and values of another type are errors."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

from vpt_edge.runtime.errors import BundleError

EXPORT_AGAIN = "export the checkpoint again: vpt-export CHECKPOINT -o BUNDLE"

T = TypeVar("T")


def read_as(cls: type[T], data: Any, where: str) -> T:
    """``data`` from JSON as the dataclass ``cls``; ``where`` names it in errors.

    Raises BundleError for unknown keys, missing keys and values of another type.
    """
    if not isinstance(data, dict):
        raise BundleError(f"{where} is {type(data).__name__}, expected an object", EXPORT_AGAIN)
    hints = typing.get_type_hints(cls)
    problems = []
    if unknown := sorted(set(data) - set(hints)):
        problems.append(f"unknown {', '.join(unknown)}")
    if missing := sorted(set(hints) - set(data)):
        problems.append(f"missing {', '.join(missing)}")
    if problems:
        text = "; ".join(problems)
        raise BundleError(f"{where} has other keys than expected: {text}", EXPORT_AGAIN)
    values = {key: _convert(hint, data[key], f"{where}: {key}") for key, hint in hints.items()}
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return read_as(typing.cast("type[Any]", hint), value, where)
    if origin is types.UnionType and value is not None and dataclasses.is_dataclass(parts[0]):
        return read_as(typing.cast("type[Any]", parts[0]), value, where)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(parts[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        return _convert_items(hint, value, where)
    if not _is_of(hint, value):
        raise BundleError(f"{where} is {value!r}, expected {hint}", EXPORT_AGAIN)
    return value


def _convert_items(hint: Any, values: list[Any], where: str) -> tuple[Any, ...]:
    parts = list(typing.get_args(hint))
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(values)
    if len(parts) != len(values):
        raise BundleError(f"{where} is {values!r}, expected {hint}", EXPORT_AGAIN)
    return tuple(_convert(part, item, where) for part, item in zip(parts, values, strict=True))


def _is_of(hint: Any, value: Any) -> bool:
    """Whether ``value`` has the plain type ``hint``, or one of a union; a bool is not an int."""
    options: tuple[Any, ...] = (hint,)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
    if value is None:
        return types.NoneType in options
    return type(value) in options or (type(value) is int and float in options)
