"""The fields of a request's JSON, read by their names."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.schema import brief, label
from vpt_edge.server.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence


class Fields:
    """An object of a request; ``null`` stands for a field that is not there.

    ``name``: where it stands in the request, such as ``messages[1]``; none for the whole body. All
    raise RequestError, with status 400 and the name of the field.
    """

    def __init__(self, data: Any, name: str = "") -> None:
        self.name = name
        if not isinstance(data, dict):
            raise self.wrong(None, data, "an object")
        self._data: Mapping[str, Any] = data

    def path(self, field: str | None) -> str:
        """The name of ``field`` as the client reads it."""
        if field is None:
            return self.name
        name = label(field)
        if not self.name:
            return name
        return f"{self.name}.{name}"

    def wrong(self, field: str | None, found: Any, expected: str) -> RequestError:
        path = self.path(field)
        problem = f"{path or 'the body'} is {brief(found)}, expected {expected}"
        if found is None and path:
            problem = f"{path} is missing, expected {expected}"
        return RequestError(400, "invalid_value", problem, param=path or None)

    def get(self, field: str) -> Any:
        return self._data.get(field)

    def text(self, field: str) -> str | None:
        value = self.get(field)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(field, value, "a text")
        return self.check_text(field, value)

    def check_text(self, field: str, value: str) -> str:
        """``value``, which is whole: half of a character (JSON can spell one) is not text."""
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise self.wrong(field, value[error.start], "whole characters") from None
        return value

    def choice(self, field: str, names: Sequence[str]) -> str | None:
        """One of ``names``."""
        value = self.text(field)
        if value is not None and value not in names:
            raise self.wrong(field, value, f"one of: {', '.join(names)}")
        return value

    def flag(self, field: str, default: bool = False) -> bool:
        value = self.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(field, value, "true or false")
        return value

    def number(self, field: str) -> float | None:
        """A number that is finite: JSON has 1e999."""
        value = self.get(field)
        if value is None:
            return None
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or (isinstance(value, float) and not math.isfinite(value)):
            raise self.wrong(field, value, "a number")
        return value

    def share(self, field: str) -> float | None:
        """A number of more than 0 and at most 1."""
        value = self.number(field)
        if value is not None and not 0 < value <= 1:
            raise self.wrong(field, value, "more than 0 and at most 1")
        return value

    def count(self, field: str) -> int | None:
        """A whole number."""
        value = self.number(field)
        if value is None:
            return None
        if value != int(value):
            raise self.wrong(field, value, "a whole number")
        return int(value)

    def count_from(self, field: str, least: int) -> int | None:
        """A whole number of at least ``least``."""
        value = self.count(field)
        if value is not None and value < least:
            raise self.wrong(field, value, f"at least {least}")
        return value

    def items(self, field: str) -> list[Any]:
        value = self.get(field)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(field, value, "a list")
        return value

    def object(self, field: str) -> Fields:
        return Fields(self.get(field), self.path(field))

    def objects(self, field: str) -> Iterator[Fields]:
        """The objects in a list."""
        for index, item in enumerate(self.items(field)):
            yield Fields(item, f"{self.path(field)}[{index}]")

    def texts(self, field: str) -> tuple[str, ...]:
        """The texts in a list, or the only one."""
        value = self.get(field)
        if isinstance(value, str):
            value = [value]
        elif value is not None and not isinstance(value, list):
            raise self.wrong(field, value, "a text, or a list of texts")
        texts = []
        for item in value or []:
            if not isinstance(item, str):
                raise self.wrong(field, value, "a text, or a list of texts")
            texts.append(self.check_text(field, item))
        return tuple(texts)

    def given(self, names: Collection[str]) -> list[str]:
        """Those of ``names`` that are there, in the order of the request."""
        return [name for name, value in self._data.items() if value is not None and name in names]

    def without(self, names: Collection[str]) -> Fields:
        """The same without the fields ``names``."""
        rest = {name: value for name, value in self._data.items() if name not in names}
        return Fields(rest, self.name)

    def refuse_others(self, known: Collection[str], neutral: Mapping[str, Collection[Any]]) -> None:
        """Refuse each field that is not ``known``, unless it has one of its ``neutral`` values,
        with which it changes nothing.
        """
        for field, value in self._data.items():
            if value is None or field in known or is_one_of(value, neutral.get(field, ())):
                continue
            path = self.path(field)
            problem = f"{path} is {brief(value)}, which this server does not do"
            raise RequestError(400, "unsupported_parameter", problem, "leave it out", param=path)


def is_one_of(value: Any, choices: Collection[Any]) -> bool:
    """Whether ``value`` is one of ``choices``: true is not 1."""
    for choice in choices:
        if isinstance(value, bool) == isinstance(choice, bool) and value == choice:
            return True
    return False
