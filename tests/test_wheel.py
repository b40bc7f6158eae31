"""The wheel holds what the tree holds."""

from __future__ import annotations

import configparser
from pathlib import Path
from zipfile import ZipFile

import pytest
from golden import ROOT
from wheels import PACKAGES, build_wheel

REGISTRATION = ROOT / "optimum" / "commands" / "register" / "vpt.py"  # where Optimum looks


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    file = build_wheel(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target"))
    assert file.name.endswith("-py3-none-any.whl")
    return ZipFile(file)


def tree() -> dict[str, Path]:
    """What a user is to get, by its name in the wheel."""
    files = {
        f"vpt_edge/{path.relative_to(ROOT)}": path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    return {**files, "optimum/commands/register/vpt.py": REGISTRATION}


def test_the_wheel_is_the_tree(wheel: ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == set(tree())
    for name, path in tree().items():
        assert wheel.read(name) == path.read_bytes(), name


def test_every_package_says_that_it_is_typed(wheel: ZipFile) -> None:
    assert {f"vpt_edge/{package}/py.typed" for package in PACKAGES} <= set(wheel.namelist())


def test_a_namespace_has_no_init(wheel: ZipFile) -> None:
    for folder in ("vpt_edge", "optimum", "optimum/commands", "optimum/commands/register"):
        assert f"{folder}/__init__.py" not in wheel.namelist()


def test_the_commands_exist(wheel: ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    config = configparser.ConfigParser()
    config.read_string(wheel.read(entry_points).decode())
    commands = dict(config["console_scripts"])
    names = ("bench", "build", "doctor", "eval", "export", "run", "serve", "tune", "watch")
    assert set(commands) == {f"vpt-{name}" for name in names}
    for place in commands.values():
        module, _, function = place.partition(":")
        assert f"def {function}(" in wheel.read(module.replace(".", "/") + ".py").decode()


def test_the_licence_is_in_it(wheel: ZipFile) -> None:
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())
