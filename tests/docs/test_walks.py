"""The pages for who changes the code are true: what they name exists."""

from __future__ import annotations

import ast
import re

import pytest
from golden import ROOT

PAGES = ("walks.md", "add-a-model.md", "add-a-way-of-looking.md")
PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")
STEP = re.compile(r"^\d+\. .*(?:\n +.*)*", re.MULTILINE)


def text(page: str) -> str:
    return (ROOT / "docs" / page).read_text("utf-8")


def places() -> list[tuple[str, str]]:
    pages = "\n".join(map(text, PAGES))
    return sorted(set(PLACE.findall(pages)))


def names(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """What a module or a class defines, and the statements of each."""
    members: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            members[node.name] = node.body
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            members |= {ast.unparse(target): [] for target in targets}
    return members


@pytest.mark.parametrize(("path", "name"), places())
def test_the_place_exists(path: str, name: str) -> None:
    body = ast.parse((ROOT / path).read_text("utf-8")).body
    for part in name.split("."):
        members = names(body)
        assert part in members, f"{path} has no {name}"
        body = members[part]


def test_each_walk_has_ten_steps_and_each_step_a_place() -> None:
    _, *walks = text("walks.md").split("\n## ")
    assert len(walks) == 2
    for walk in walks:
        steps = STEP.findall(walk)
        assert len(steps) == 10
        for step in steps:
            assert PLACE.search(step), step
