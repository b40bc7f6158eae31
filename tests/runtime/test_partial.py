"""What killed processes leave is removed or put back; what others own, or what only looks like it,
stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from locks import held

from vpt_edge.runtime.files import create_folder, replace_file, replace_folder, write_file
from vpt_edge.runtime.partial import create_file, sweep_files

KILLED = """
import os, signal, sys
from pathlib import Path
from vpt_edge.runtime import files
with files.{function}(sys.argv[1]) as beside:
    {write}
    os.kill(os.getpid(), signal.SIGKILL)
"""
FOLDER = KILLED.format(function="replace_folder", write='(beside / "part").write_text("half")')
WORK = KILLED.format(function="replace_folder", write="files.create_work_folder(beside)")
FILE = KILLED.format(function="replace_file", write='beside.write_text("half")')
SIMILAR = (
    ".place.vpt-partial",
    ".place.x1y2z3w4.vpt-partial",
    ".place.12.mine.vpt-partial",
    ".place.12.x1y2z3w4.partial",
    ".place.12.x1y2z3w4.vpt-partial.bak",
    ".place.12.X1Y2Z3W4.vpt-partial",
    ".places.12.x1y2z3w4.vpt-partial",
    "place.12.x1y2z3w4.vpt-partial",
    ".place.12.x1y2z3w4.vpt-older",
)


def kill(code: str, place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code, str(place)], check=False)
    assert done.returncode == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_new_folder(place: Path) -> None:
    with create_folder(place) as beside:
        (beside / "part").write_text("whole")


def write_folder(place: Path) -> None:
    with replace_folder(place) as beside:
        (beside / "part").write_text("whole")


@pytest.mark.parametrize("code", [FOLDER, WORK], ids=["folder", "work folder"])
@pytest.mark.parametrize("write", [write_folder, write_new_folder])
def test_the_next_writer_removes_what_a_killed_one_left(
    code: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    place = tmp_path / "place"
    kill(code, place)
    kill(code, place)
    assert len(names(tmp_path)) >= 2
    write(place)
    assert names(tmp_path) == ["place"]
    assert names(place) == ["part"]


def test_the_next_write_removes_the_file_that_a_killed_one_left(tmp_path: Path) -> None:
    place = tmp_path / "place"
    kill(FILE, place)
    assert len(names(tmp_path)) == 1
    write_file(place, b"whole")
    assert names(tmp_path) == ["place"]


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with replace_file(place) as beside:
        beside.write_text("first")
        write_file(place, b"second")
        assert place.read_text() == "second"
        assert beside.read_text() == "first"
    assert place.read_text() == "first"
    with replace_folder(tmp_path / "folder") as folder:
        write_file(place, b"third")
        write_folder(tmp_path / "other")
        assert folder.is_dir()
    assert names(tmp_path) == ["folder", "other", "place"]


def test_what_only_looks_similar_stays(tmp_path: Path) -> None:
    for name in SIMILAR:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    write_folder(tmp_path / "place")
    write_file(tmp_path / "file", b"")
    assert names(tmp_path) == sorted((*SIMILAR, "file", "place"))


def test_a_folder_is_no_partial_file_and_a_link_is_neither(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (tmp_path / ".place.1.abcdefgh.vpt-partial").mkdir()
    (tmp_path / ".place.2.abcdefgh.vpt-partial").symlink_to(tmp_path / "mine" / "file")
    write_file(tmp_path / "place", b"")
    assert len(names(tmp_path)) == 4
    (tmp_path / "place").unlink()
    (tmp_path / ".place.1.abcdefgh.vpt-partial").rmdir()
    for number in (1, 3):
        end = "old" if number == 3 else "partial"
        (tmp_path / f".place.{number}.abcdefgh.vpt-{end}").symlink_to(tmp_path / "mine")
    (tmp_path / ".place.4.abcdefgh.vpt-old").write_text("mine")
    write_folder(tmp_path / "place")
    assert len(names(tmp_path)) == 6
    assert names(tmp_path / "mine") == ["file"]


def test_nothing_is_removed_while_another_writes(tmp_path: Path) -> None:
    place = tmp_path / "place"
    kill(FOLDER, place)
    before = names(tmp_path)
    with held(place, "process"), pytest.raises(Exception, match="another process is writing"):
        write_folder(place)
    assert names(tmp_path) == before


def test_an_old_folder_beside_a_new_one_goes(tmp_path: Path) -> None:
    write_folder(tmp_path / "place")
    (tmp_path / ".place.1.abcdefgh.vpt-old").mkdir()
    write_folder(tmp_path / "place")
    assert names(tmp_path) == ["place"]


def test_a_file_that_is_taken_for_an_orphan_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process sweeps between the making and the locking."""
    place = tmp_path / "place"
    calls = list[int]()

    def sweep_once(handle: int) -> bool:
        calls.append(handle)
        if len(calls) == 1:
            monkeypatch.undo()
            sweep_files(place)
        return True

    monkeypatch.setattr("vpt_edge.runtime.partial.try_lock", sweep_once)
    handle, path = create_file(place)
    assert handle is not None
    os.close(handle)
    assert path.exists()
    assert names(tmp_path) == [path.name]
