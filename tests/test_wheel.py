"""The wheel holds what the tree holds."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from golden import ROOT

PACKAGES = ["runtime", "live", "device", "engines", "calibration", "export", "commands"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built from a copy: setuptools would take up what an older build left in the tree."""
    source = tmp_path_factory.mktemp("source")
    target = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--disable-pip-version-check", "--quiet"]
    command += ["--wheel-dir", str(target), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (file,) = target.iterdir()
    assert file.name.endswith("-py3-none-any.whl")
    return ZipFile(file)


def tree() -> dict[str, Path]:
    """What a user is to get, by its name in the wheel."""
    return {
        f"vpt_edge/{path.relative_to(ROOT)}": path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_the_wheel_is_the_tree(wheel: ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == set(tree())
    for name, path in tree().items():
        assert wheel.read(name) == path.read_bytes(), name


def test_every_package_says_that_it_is_typed(wheel: ZipFile) -> None:
    assert {f"vpt_edge/{package}/py.typed" for package in PACKAGES} <= set(wheel.namelist())


def test_the_namespace_has_no_init(wheel: ZipFile) -> None:
    assert "vpt_edge/__init__.py" not in wheel.namelist()


def test_the_commands_exist(wheel: ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    config = configparser.ConfigParser()
    config.read_string(wheel.read(entry_points).decode())
    commands = dict(config["console_scripts"])
    names = ("bench", "build", "doctor", "eval", "export", "run", "watch")
    assert set(commands) == {f"vpt-{name}" for name in names}
    for place in commands.values():
        module, _, function = place.partition(":")
        assert f"def {function}(" in wheel.read(module.replace(".", "/") + ".py").decode()


def test_the_licence_is_in_it(wheel: ZipFile) -> None:
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())
