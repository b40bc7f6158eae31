"""The values of a config file as a dataclass: each has its type and lies in its range, or an error
names it.

The ranges stand beside the fields: ``depth: Count``. They are wide, and keep out what no model has:
what remains is held against the shapes of the tensors.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from vpt_edge.export.config_files import DOWNLOAD_AGAIN
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import Range, brief

T = TypeVar("T")
CORRECT = "correct it, or download the checkpoint again"


Count = Annotated[int, Range(1, 1000)]  # of layers, heads
Width = Annotated[int, Range(1, 1_000_000)]  # of a layer, in channels
Vocabulary = Annotated[int, Range(1, 10_000_000)]  # tokens
Share = Annotated[int, Range(0, 1000)]  # of the rotary dimensions
Ratio = Annotated[float, Range(0.1, 100)]  # of an MLP to the stream
Epsilon = Annotated[float, Range(1e-12, 0.1)]  # of a norm
Rate = Annotated[float, Range(0, 1000)]  # positions a second
Theta = Annotated[float, Range(1, 1e12)]  # of rotary positions
Pixels = Annotated[int, Range(1, 100_000)]  # of a side
Area = Annotated[int, Range(1, 1_000_000_000)]  # pixels of a picture


def read_fields(cls: type[T], values: Mapping[str, Any], file: Path, prefix: str = "") -> T:
    """Those of ``values`` that the dataclass ``cls`` names; a field with a default may be absent.

    ``file`` and ``prefix`` say in an error where a value stands. Raises CheckpointError.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    required = [field.name for field in fields(typing.cast(Any, cls)) if field.default is MISSING]
    absent = [f"{prefix}{name}" for name in required if name not in values]
    if absent:
        raise CheckpointError(f"{file} lacks {', '.join(absent)}", DOWNLOAD_AGAIN)
    arguments = {}
    for name, hint in hints.items():
        if name in values:
            arguments[name] = read_value(hint, values[name], f"{file}: {prefix}{name}")
    return cls(**arguments)


def read_value(hint: Any, value: Any, where: str) -> Any:
    """``value`` as ``hint`` has it: lists as tuples, whole numbers as floats where those are
    expected. Raises CheckpointError.
    """
    if not _fits(hint, value):
        raise value_error(where, value, _expected(hint))
    if isinstance(value, list):
        return tuple(value)
    if _base(hint) is float:
        return float(value)
    return value


def value_error(where: str, value: Any, expected: str) -> CheckpointError:
    """That ``value`` was found ``where`` another was expected."""
    return CheckpointError(f"{where} is {brief(value)}, expected {expected}", CORRECT)


def _base(hint: Any) -> Any:
    """``hint`` without its range."""
    if typing.get_origin(hint) is Annotated:
        return typing.get_args(hint)[0]
    return hint


def _limits(hint: Any) -> Range | None:
    if typing.get_origin(hint) is not Annotated:
        return None
    limits = typing.get_args(hint)[1]
    assert isinstance(limits, Range)
    return limits


def _fits(hint: Any, value: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        return isinstance(value, list) and _fit_items(typing.get_args(hint), value)
    base = _base(hint)
    is_number = type(value) is int and base is float  # a bool is not a number
    if type(value) is not base and not is_number:
        return False
    limits = _limits(hint)
    return limits is None or limits.holds(value)


def _fit_items(hints: Sequence[Any], values: Sequence[Any]) -> bool:
    if hints[-1] is Ellipsis:
        return all(_fits(hints[0], value) for value in values)
    if len(hints) != len(values):
        return False
    return all(_fits(hint, value) for hint, value in zip(hints, values, strict=True))


def _expected(hint: Any) -> str:
    """What ``hint`` takes, in words."""
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        count = "" if items[-1] is Ellipsis else f"{len(items)} "
        return f"a list of {count}items, each {_expected(items[0])}"
    if _base(hint) is bool:
        return "true or false"
    if _base(hint) is int:
        return f"a whole {str(_limits(hint)).removeprefix('a ')}"
    return str(_limits(hint))
