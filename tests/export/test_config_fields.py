"""Values of a config file: typed, ranged, and named where they are neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vpt_edge.export.config_fields import Count, Epsilon, Share, read_fields
from vpt_edge.runtime.errors import CheckpointError

FILE = Path("config.json")


@dataclass(frozen=True)
class Config:
    layers: Count
    eps: Epsilon = 1e-6
    tied: bool = False
    section: tuple[Share, Share] = (1, 2)
    indexes: tuple[Share, ...] = ()


def test_values_come_as_the_dataclass_has_them() -> None:
    values = {"layers": 2, "eps": 1e-5, "tied": True, "section": [3, 4], "indexes": [], "more": {}}
    assert read_fields(Config, values, FILE) == Config(2, 1e-5, True, (3, 4), ())
    assert read_fields(Config, {"layers": 2}, FILE) == Config(2)


@pytest.mark.parametrize(
    "value", [None, "2", 2.0, True, 0, -1, 1001, 10**400, float("nan"), [], [2], {}, "\ud800"]
)
def test_a_whole_number_is_one_in_its_range(value: Any) -> None:
    with pytest.raises(CheckpointError) as error:
        read_fields(Config, {"layers": value}, FILE, "text.")
    assert error.value.problem.startswith("config.json: text.layers is ")
    assert error.value.problem.endswith(", expected a whole number from 1 to 1,000")
    assert len(error.value.problem) < 250


@pytest.mark.parametrize(
    "value", [None, "1e-6", True, 0, 0.0, -1e-6, 1, 1e308, float("inf"), float("nan"), 10**400]
)
def test_a_number_is_one_in_its_range(value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"eps is .*, expected a number from 1e-12 to 0.1"):
        read_fields(Config, {"layers": 2, "eps": value}, FILE)


@pytest.mark.parametrize("value", [None, "false", "true", 0, 1, 0.0, [], {}])
def test_only_true_and_false_are_flags(value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"tied is .*, expected true or false"):
        read_fields(Config, {"layers": 2, "tied": value}, FILE)


@pytest.mark.parametrize("value", [None, 3, "34", [3], [3, 4, 5], [3, " "], [3, -4], [3.0, 4], {}])
def test_a_list_has_its_length_and_its_items(value: Any) -> None:
    with pytest.raises(
        CheckpointError, match=r"section is .*, expected a list of 2 items, each a whole"
    ):
        read_fields(Config, {"layers": 2, "section": value}, FILE)


@pytest.mark.parametrize("value", ["0", [None], [[0]], {"0": 0}])
def test_a_list_of_any_length_has_its_items(value: Any) -> None:
    with pytest.raises(
        CheckpointError, match=r"indexes is .*, expected a list of items, each a whole"
    ):
        read_fields(Config, {"layers": 2, "indexes": value}, FILE)


def test_what_is_absent_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"config.json lacks text\.layers"):
        read_fields(Config, {}, FILE, "text.")


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(CheckpointError) as error:
        read_fields(Config, {"layers": "A" * 100_000}, FILE)
    assert len(str(error.value)) < 400
