"""A process of its own imports nothing from the folder in which the user happens to stand."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vpt_edge.device.probes import in_subprocess
from vpt_edge.engines.process import BuildProcess
from vpt_edge.runtime import child
from vpt_edge.runtime.child import child_command, child_environment
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from collections.abc import Sequence

TRAPS = ("numpy", "json", "tensorrt", "tensorrt_rtx", "onnxruntime", "vpt_edge", "sitecustomize")


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a module of the working folder would write if it were imported."""
    folder = tmp_path / "working"
    folder.mkdir()
    mark = tmp_path / "mark"
    for name in TRAPS:
        text = f"open({str(mark)!r}, 'a').write('{name} ')\nraise SystemExit(9)\n"
        (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(folder)
    return mark


PATHS = [
    "",
    ".",
    ":",
    "{here}",
    "{here}:/nowhere",
    "/nowhere:",
    ":/nowhere",
    "/nowhere::/elsewhere",
    "../working",
]


def set_path(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    # Where vpt_edge itself comes from, which may not be installed.
    entries = [path.format(here=Path.cwd()), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entries))


def run(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("path", PATHS)
def test_nothing_comes_from_the_working_folder(
    path: str, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_path(monkeypatch, path)
    code = "import json, numpy, vpt_edge.runtime; print(json.__file__)"
    assert "working" not in run(child_command(code))
    assert not mark.exists()


@pytest.mark.parametrize("path", PATHS)
def test_nor_before_python_knew_how(path: str, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.10 knows no PYTHONSAFEPATH, and puts the working folder in front."""
    set_path(monkeypatch, path)
    environment = {**child_environment()}
    environment.pop("PYTHONSAFEPATH")
    monkeypatch.setattr(f"{__name__}.child_environment", lambda: environment)
    assert "working" not in run(child_command("import json; print(json.__file__)"))
    assert not mark.exists()


def test_the_build_process_is_one(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever TensorRT is here, or is not, it is not that of the working folder."""
    set_path(monkeypatch, ".")
    process = BuildProcess({"task": "probe", "library": "tensorrt"}, "looking for tensorrt")
    with contextlib.suppress(VptError):
        process.run(lambda stage, done: None)
    assert not mark.exists()


def test_the_doctors_probes_are(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", str(Path.cwd()), *sys.path])
    version, file = in_subprocess("module_version", "numpy")
    assert version and "working" not in file
    assert not mark.exists()


def test_other_entries_of_the_path_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(tmp_path), "relative"]))
    assert child_environment()["PYTHONPATH"] == os.pathsep.join([str(tmp_path), "relative"])
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in child_environment()
    assert child.foreign_entries(["", ".", str(Path.cwd()), "/a"]) == ["/a"]
