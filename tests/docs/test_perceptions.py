"""The page about perceptions is true: each worked example is run, each known system is written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from descriptions import SHIPPED, call, crop_view, rules_of, view, way_of, written
from golden import ROOT

from vpt_edge.runtime.perception.actions import Crop
from vpt_edge.runtime.perception.description import read_rules, shipped_names
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.views import View

PAGE = (ROOT / "docs" / "perceptions.md").read_text("utf-8")
VIEWS = [view(800, 600, shown=(400, 300))]
SAID = {
    "A": call([0, 0, 500, 1000]),
    "B": call([500, 0, 1000, 1000]),
    "T": "Well.",
    "X": "<tool_call>{</tool_call>",
}
HALVES = {(0, 0, 400, 600): "left", (400, 0, 800, 600): "right"}


class Row(NamedTuple):
    """The cells of a row, without marks."""

    cells: tuple[str, ...]


def tables() -> Iterator[list[Row]]:
    """The tables of the page, each with its head."""
    rows = list[Row]()
    for line in [*PAGE.splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            rows.append(Row(tuple(cell.removeprefix("| ") for cell in cells)))
        elif rows:
            yield rows
            rows = []


def table(*head: str) -> list[Row]:
    """The rows of the table whose head begins so."""
    (rows,) = (rows for rows in tables() if rows[0].cells[: len(head)] == head)
    return rows[2:]


def code(cell: str) -> str:
    assert cell.startswith("`") and cell.endswith("`"), cell
    return cell[1:-1]


def value(cell: str) -> Any:
    return json.loads(code(cell))


def say(cell: str) -> str:
    """What the model says by the letters in ``cell``."""
    return re.sub(r"\b[ABTX]\b", lambda match: SAID[match[0]], code(cell))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_bundle(tmp_path_factory.mktemp("bundle")).manifest


def keys(data: Any, path: str = "") -> Iterator[str]:
    for key, inner in data.items():
        yield f"{path}{key}"
        if isinstance(inner, dict):
            yield from keys(inner, f"{path}{key}.")


def test_the_page_names_every_key() -> None:
    described = [row.cells[0] for rows in tables() if rows[0].cells[0] == "key" for row in rows[2:]]
    names = set(re.findall(r"`([a-z_.]+)`", " ".join(described)))
    leaves = set(keys(SHIPPED)) - {"opening", "call", "look", "hand_back", "turn"}
    inner = {
        key for key in leaves if key.startswith(("sampling.", "look.box.small.", "turn.thoughts."))
    }
    assert leaves - inner - {"look.picture", "look.box"} <= names


def test_the_page_names_what_is_shipped() -> None:
    assert [code(row.cells[0]) for row in table("shipped")] == shipped_names()


SYSTEMS = next(rows for rows in tables() if rows[0].cells[:2] == ("key", "DeepEyes"))


@pytest.mark.parametrize("number", range(1, len(SYSTEMS[0].cells)), ids=SYSTEMS[0].cells[1:])
def test_a_known_system_is_written(number: int, tmp_path: Path) -> None:
    changes = {code(row.cells[0]): value(row.cells[number]) for row in SYSTEMS[2:-1]}
    rules = read_rules(written(changes, tmp_path))
    assert rules == rules_of(changes)
    assert len(SYSTEMS[0].cells) == 7


BOXES = table("key", "value", "the model names")


@pytest.mark.parametrize("row", BOXES, ids=lambda row: " ".join(row.cells[:2]))
def test_a_box_is_found(row: Row, manifest: Manifest) -> None:
    key, changed, named, expected = row.cells
    way = way_of(manifest, {code(key): value(changed)})
    said = call(value(named))
    decision = way.read(said, VIEWS, 1)
    if not expected.startswith("`"):
        assert decision.reply == f"<tool_response>\nError: {expected}.\n</tool_response>"
        return
    (action,) = decision.actions
    assert isinstance(action, Crop)
    assert list(action.box) == value(expected)


@pytest.mark.parametrize("row", table("key", "value", "size"), ids=lambda row: row.cells[1])
def test_a_size_is_made(row: Row, manifest: Manifest) -> None:
    key, changed, expected = row.cells
    way = way_of(manifest, {code(key): value(changed)})
    size = None if expected == "as it is" else tuple(value(expected))
    if code(key) == "first_view":
        assert way.first_size(VIEWS[0].size) == size
        return
    (action,) = way.read(call([250, 500, 750, 1000]), VIEWS, 1).actions
    assert isinstance(action, Crop)
    assert action.size == size


@pytest.mark.parametrize("row", table("keys", "values"), ids=lambda row: " ".join(row.cells[1:3]))
def test_a_call_is_found(row: Row, manifest: Manifest) -> None:
    key, changed, said, expected = row.cells
    way = way_of(manifest, {code(key): value(changed)})
    actions = way.read(say(said), VIEWS, 1).actions
    looks = [f"{HALVES[action.box]} of 0" for action in actions if isinstance(action, Crop)]
    assert (", ".join(looks) or "none") == expected


SHOWN: list[View] = [*VIEWS, crop_view((0, 0, 400, 300)), crop_view((0, 0, 100, 100))]


@pytest.mark.parametrize(
    "row", table("keys and values", "arguments"), ids=lambda row: " ".join(row.cells[:2])
)
def test_a_view_is_found(row: Row, manifest: Manifest) -> None:
    changes, arguments, expected = row.cells
    way = way_of(manifest, value(changes))
    said = {"bbox_2d": [0, 0, 500, 500], **value(arguments)}
    text = json.dumps({"name": "image_zoom_in_tool", "arguments": said})
    decision = way.read(f"<tool_call>{text}</tool_call>", SHOWN, 1)
    if not expected.startswith("`"):
        assert decision.reply == f"<tool_response>\nError: {expected}.\n</tool_response>"
        return
    (action,) = decision.actions
    assert isinstance(action, Crop)
    assert action.source == value(expected)


@pytest.mark.parametrize(
    "row", table("keys and values", "the model says"), ids=lambda row: " ".join(row.cells[:2])
)
def test_a_look_is_handed_back(row: Row, manifest: Manifest) -> None:
    changes, said, expected = row.cells
    way = way_of(manifest, value(changes))
    left = way.most_looks - 1
    decision = way.read(say(said), VIEWS, left)
    _, user = way.follow_up(say(said), decision, VIEWS, left)
    assert user.text == value(expected)


@pytest.mark.parametrize("row", table("keys and values", "nothing"), ids=lambda row: row.cells[0])
def test_a_system_message_is_made(row: Row, manifest: Manifest) -> None:
    changes, *expected = row.cells
    way = way_of(manifest, value(changes))
    for system, cell in zip((None, "Be brief."), expected, strict=True):
        first = way.opening("What?", "free", system=system)[0]
        if cell == "none":
            assert first.role == "user"
        else:
            assert (first.role, first.text) == ("system", value(cell))
