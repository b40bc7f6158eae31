"""JSON as dataclasses: unknown keys, missing keys, values of another type or out of range are
errors.

A field's range stands in its annotation: ``Annotated[int, Range(1, 8)]``. One with a default may be
missing: what older files lack.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import reprlib
import types
import typing
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from vpt_edge.runtime.errors import BundleError

EXPORT_AGAIN = "export the checkpoint again: vpt-export CHECKPOINT -o BUNDLE"
MOST_LETTERS = 160  # of a value in an error
LISTED = 5  # names in an error
PLAIN = re.compile(r"[\w.-]{1,60}", re.ASCII)

T = TypeVar("T")

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


class Constraint(Protocol):
    """What a value must be beside its type; as text what is expected."""

    def holds(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Range:
    """A number from ``least`` to ``most``, both included."""

    least: float
    most: float

    def holds(self, value: Any) -> bool:
        return bool(self.least <= value <= self.most)

    def __str__(self) -> str:
        return f"a number from {self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class Choice:
    """One of ``names``."""

    names: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return f"one of: {', '.join(self.names)}"


@dataclass(frozen=True)
class Pattern:
    """A text that ``expression`` matches as a whole; ``title`` says what that is."""

    title: str
    expression: str

    def holds(self, value: Any) -> bool:
        return re.fullmatch(self.expression, value, re.ASCII) is not None

    def __str__(self) -> str:
        return self.title


def parse_json(text: str | bytes) -> Any:
    """``json.loads`` for text that is not trusted. Raises ValueError, for what is nested too deeply
    as well.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def brief(value: Any) -> str:
    """``value`` for an error: in one line, and cut where it is long or deep."""
    text = _repr.repr(value)
    if len(text) <= MOST_LETTERS:
        return text
    half = MOST_LETTERS // 2
    return f"{text[:half]}...{text[-half:]}"


def label(name: str) -> str:
    """A key or a file's name for an error: as it is where it is plain, else ``brief``."""
    return name if PLAIN.fullmatch(name) else brief(name)


def labels(names: Iterable[str]) -> str:
    """The first of ``names`` for an error, in order, and how many more there are."""
    ordered = sorted(names)
    text = ", ".join(label(name) for name in ordered[:LISTED])
    more = len(ordered) - LISTED
    return f"{text} and {more} more" if more > 0 else text


def read_as(cls: type[T], data: Any, where: str) -> T:
    """``data`` from JSON as the dataclass ``cls``; ``where`` names it in errors.

    A field that has a default may be missing. Raises BundleError for unknown keys, missing keys,
    values of another type or out of range.
    """
    if not isinstance(data, dict):
        raise BundleError(f"{where} is {type(data).__name__}, expected an object", EXPORT_AGAIN)
    hints = _hints(typing.cast("Hashable", cls))
    problems = []
    if unknown := set(data) - set(hints):
        problems.append(f"unknown {labels(unknown)}")
    if missing := _required(typing.cast("Hashable", cls)) - set(data):
        problems.append(f"missing {labels(missing)}")
    if problems:
        text = "; ".join(problems)
        raise BundleError(f"{where} has other keys than expected: {text}", EXPORT_AGAIN)
    given = [key for key in hints if key in data]
    values = {key: _convert(hints[key], data[key], f"{where}: {key}") for key in given}
    return cls(**values)


@functools.cache
def _required(cls: Any) -> frozenset[str]:
    """The fields of the dataclass ``cls`` that have no default."""
    fields = dataclasses.fields(cls)
    return frozenset(field.name for field in fields if field.default is dataclasses.MISSING)


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if origin is Annotated:
        return _convert_annotated(parts[0], parts[1:], value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert(_option(parts, value), value, where)
    if dataclasses.is_dataclass(hint):
        return read_as(typing.cast("type[Any]", hint), value, where)
    if origin is dict and isinstance(value, dict):
        return _convert_items(parts, value, where)
    if origin is tuple and isinstance(value, list):
        return _convert_tuple(hint, value, where)
    if hint is not Any and not _is_of(hint, value):
        raise BundleError(f"{where} is {brief(value)}, expected {hint}", EXPORT_AGAIN)
    return value


def _convert_annotated(
    hint: Any, constraints: tuple[Constraint, ...], value: Any, where: str
) -> Any:
    converted = _convert(hint, value, where)
    for constraint in constraints:
        if not constraint.holds(converted):
            problem = f"{where} is {brief(value)}, expected {constraint}"
            raise BundleError(problem, EXPORT_AGAIN)
    return converted


def _convert_items(hints: tuple[Any, ...], items: dict[str, Any], where: str) -> dict[str, Any]:
    key_hint, hint = hints
    converted = dict[str, Any]()
    for key, item in items.items():
        _convert(key_hint, key, f"{where}: a key")
        converted[key] = _convert(hint, item, f"{where}.{label(key)}")
    return converted


def _convert_tuple(hint: Any, values: list[Any], where: str) -> tuple[Any, ...]:
    parts = list(typing.get_args(hint))
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(values)
    if len(parts) != len(values):
        raise BundleError(f"{where} is {brief(values)}, expected {hint}", EXPORT_AGAIN)
    return tuple(_convert(part, item, where) for part, item in zip(parts, values, strict=True))


def _option(options: tuple[Any, ...], value: Any) -> Any:
    """The one of ``options`` whose plain type ``value`` has, else the first."""
    for option in options:
        plain = option
        if typing.get_origin(option) is Annotated:
            plain = typing.get_args(option)[0]
        if _is_of(plain, value):
            return option
    return options[0]


def _is_of(hint: Any, value: Any) -> bool:
    """Whether ``value`` has the plain type ``hint``; a bool is not an int."""
    return type(value) is hint or (type(value) is int and hint is float)
