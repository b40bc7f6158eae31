"""JSON as dataclasses, field by field."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pytest
from manifests import refused

from vpt_edge.runtime.schema import read_as


@dataclass(frozen=True)
class Leg:
    length: float


@dataclass(frozen=True)
class Animal:
    name: str
    age: int
    tame: bool
    tail: float | None
    head: Leg
    spare: Leg | None
    legs: tuple[Leg, ...]
    place: tuple[int, str]
    names: dict[str, str]
    notes: dict[str, Any]


DATA: dict[str, Any] = {
    "name": "Rex",
    "age": 3,
    "tame": True,
    "tail": 2.5,
    "head": {"length": 1},
    "spare": None,
    "legs": [{"length": 0.5}, {"length": 0.25}],
    "place": [4, "yard"],
    "names": {"en": "Rex"},
    "notes": {"free": [1, None, {"deep": "text"}]},
}
REX = Animal(
    name="Rex",
    age=3,
    tame=True,
    tail=2.5,
    head=Leg(1),
    spare=None,
    legs=(Leg(0.5), Leg(0.25)),
    place=(4, "yard"),
    names={"en": "Rex"},
    notes={"free": [1, None, {"deep": "text"}]},
)


def test_each_field_has_its_type() -> None:
    assert read_as(Animal, DATA, "zoo") == REX
    again = read_as(Animal, {**DATA, "tail": None, "spare": {"length": 9}, "legs": []}, "zoo")
    assert (again.tail, again.spare, again.legs) == (None, Leg(9), ())


def test_what_is_read_can_be_read_again() -> None:
    data = asdict(REX)
    data["legs"] = list(data["legs"])
    data["place"] = list(data["place"])
    assert read_as(Animal, data, "zoo") == REX


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": 3}, "zoo: name is 3, expected"),
        ({"name": None}, "zoo: name is None, expected"),
        ({"age": 3.0}, "zoo: age is 3.0, expected"),
        ({"age": True}, "zoo: age is True, expected"),
        ({"age": "3"}, "zoo: age is '3', expected"),
        ({"tame": 1}, "zoo: tame is 1, expected"),
        ({"tail": "long"}, "zoo: tail is 'long', expected"),
        ({"tail": False}, "zoo: tail is False, expected"),
        ({"head": None}, "zoo: head is NoneType, expected an object"),
        ({"head": [1]}, "zoo: head is list, expected an object"),
        ({"head": {}}, "zoo: head has other keys than expected: missing length"),
        ({"spare": {"size": 1}}, "zoo: spare has other keys than expected: unknown size; missing"),
        ({"spare": 0}, "zoo: spare is int, expected an object"),
        ({"legs": {}}, "zoo: legs is {}, expected"),
        ({"legs": [1]}, "zoo: legs is int, expected an object"),
        ({"place": [4]}, "zoo: place is [4], expected"),
        ({"place": [4, "yard", 1]}, "zoo: place is [4, 'yard', 1], expected"),
        ({"place": ["yard", 4]}, "zoo: place is 'yard', expected"),
        ({"names": {"en": 1}}, "zoo: names.en is 1, expected"),
        ({"names": []}, "zoo: names is [], expected"),
        ({"notes": "text"}, "zoo: notes is 'text', expected"),
        ({"colour": "red", "age": 3}, "zoo has other keys than expected: unknown colour"),
    ],
)
def test_other_values_are_refused(change: dict[str, Any], problem: str) -> None:
    assert refused(lambda: read_as(Animal, {**DATA, **change}, "zoo")).startswith(problem)


@dataclass(frozen=True)
class Collar:
    colour: str
    width: int | None = None
    leg: Leg = Leg(2.0)


def test_what_has_a_default_may_be_missing() -> None:
    assert read_as(Collar, {"colour": "red"}, "zoo") == Collar("red")
    assert read_as(Collar, {"colour": "red", "width": 3}, "zoo") == Collar("red", 3)
    text = refused(lambda: read_as(Collar, {"width": 3}, "zoo"))
    assert text.startswith("zoo has other keys than expected: missing colour")
    assert refused(lambda: read_as(Collar, {"colour": "red", "width": "3"}, "zoo"))


@pytest.mark.parametrize("data", [[], None, "text", 3])
def test_only_an_object_is_a_dataclass(data: Any) -> None:
    assert refused(lambda: read_as(Leg, data, "zoo")).endswith(
        "expected an object; export the checkpoint again: vpt-export CHECKPOINT -o BUNDLE"
    )
