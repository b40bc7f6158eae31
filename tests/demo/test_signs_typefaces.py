"""Training letters its signs in more typefaces than the demo has, and in none of the test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import signs.typefaces
from signs.draw import Drawer
from signs.typefaces import find_typefaces

from vpt_edge.live.signs.faces import FILES, faces_of
from vpt_edge.runtime.errors import VptError

PACKAGES = Path(signs.typefaces.__file__).with_name("package.json")
FOUND = "node_modules/@fontsource/inter/files/inter-latin-400-normal.woff2"
OTHERS = [
    "node_modules/@fontsource/inter/files/inter-latin-400-italic.woff2",
    "node_modules/@fontsource/inter/files/inter-latin-300-normal.woff2",
    "node_modules/@fontsource/inter/files/inter-greek-400-normal.woff2",
    "node_modules/@fontsource/inter/files/inter-latin-400-normal.woff",
]
SAME_SHAPES = {"carlito", "cambo"}  # made after Lato, and before Caladea


def test_the_upright_regular_and_bold_are_found(tmp_path: Path) -> None:
    for name in (FOUND, FOUND.replace("400", "700"), *OTHERS):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    expected = (str(tmp_path / FOUND), str(tmp_path / FOUND.replace("400", "700")))
    assert find_typefaces(tmp_path) == expected


def test_where_there_is_none_the_command_is_said(tmp_path: Path) -> None:
    with pytest.raises(VptError, match=r"there are no typefaces in .*; make build/typefaces"):
        find_typefaces(tmp_path)


def test_none_of_the_test_is_among_them() -> None:
    packages = json.loads(PACKAGES.read_text("utf-8"))["dependencies"]
    families = {name.partition("/")[2] for name in packages}
    kept_apart = {FILES[name][0].removeprefix("font_") for name in faces_of("test")}
    assert len(families) >= 50
    assert kept_apart == {"lato", "manrope", "caladea"}
    assert not families & (kept_apart | SAME_SHAPES)


def test_training_is_lettered_in_them_and_the_test_is_not(tmp_path: Path) -> None:
    """A typeface is the path of its file, which is opened when it is lettered in."""
    path = str(tmp_path / "missing.woff2")
    faces = (path,) * 1000
    signs = Drawer(3, faces=faces).scene(0).signs
    assert {sign.card.face for sign in signs} == {path}
    with pytest.raises(
        VptError, match=r"missing.woff2 cannot be read as a typeface: .*; give the path of a font"
    ):
        Drawer(3, faces=faces).windows(0, 1)
    signs = Drawer(3, "test", faces=faces).scene(0).signs
    assert {sign.card.face for sign in signs} <= set(faces_of("test"))
