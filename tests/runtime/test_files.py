"""Files and folders that appear whole: what stands there after a failure, modes, symlinks, and both
ways to swap.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vpt_edge.calibration.collect import StatisticsFile
from vpt_edge.runtime import files
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.exchange import exchange
from vpt_edge.runtime.files import (
    check_file,
    create_folder,
    replace_file,
    replace_folder,
    write_file,
)

Exchange = Callable[[Path, Path], bool]
SWAPS: list[Exchange] = [
    exchange,
    lambda one, other: False,
]  # in one call, and by two renames


@pytest.fixture(params=SWAPS, ids=["exchange", "renames"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "exchange", request.param)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "name").write_text("old")
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupt(path: Path) -> None:
    path.write_text("half")
    raise KeyboardInterrupt


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replace_file(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_modes_are_those_of_shared_files(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_file(tmp_path / "file", b"")
        with replace_folder(tmp_path / "folder") as folder:
            (folder / "part").mkdir()
            (folder / "part" / "name").write_text("new")
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == mode(tmp_path / "folder" / "part" / "name") == 0o644
    assert mode(tmp_path / "folder") == mode(tmp_path / "folder" / "part") == 0o755


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replace_file(path) as beside:
        interrupt(beside)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_symlink_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "file")
    for text in (b"first", b"second"):  # dangling, then not
        write_file(link, text)
        assert (tmp_path / "disk" / "file").read_bytes() == text
    assert link.is_symlink()


@pytest.mark.parametrize("place", ["nowhere/file", "folder", "pipe"])
def test_what_cannot_be_a_file_is_said_before_the_work(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VptError, match="cannot write"):
        check_file(tmp_path / place)
    with pytest.raises(VptError, match="cannot write"), replace_file(tmp_path / place):
        pytest.fail("the work began")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def is_mounted(folder: Path) -> bool:
    """Whether the kernel gives it; elsewhere, as in a container, it may be on the disk."""
    return folder.exists() and folder.stat().st_dev != Path("/").stat().st_dev


@pytest.mark.parametrize(
    "place", ["/proc/plot.png", "/sys/plot.png", "/dev/fd/plot.png", "x" * 250]
)
def test_a_folder_that_takes_no_file_is_said_before_the_work(place: str, tmp_path: Path) -> None:
    """Permissions do not tell: such a folder says that it can be written."""
    if place.startswith("/") and not is_mounted(Path(place).parent):
        pytest.skip("the system has no such folder, or keeps files in it")
    with pytest.raises(
        VptError, match=f"cannot write .*{place}: .*; choose another folder or name"
    ):
        check_file(tmp_path / place)
    with pytest.raises(VptError, match="cannot write"), replace_file(tmp_path / place):
        pytest.fail("the work began")


def test_a_file_that_cannot_be_replaced_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    check_file(path)
    monkeypatch.setattr(files, "find_mount", lambda path: path)
    with pytest.raises(VptError, match=r"the file that is there cannot be replaced"):
        check_file(path)
    check_file(tmp_path / "new.txt")


def test_in_a_folder_of_all_nobody_replaces_files_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    check_file(path)
    tmp_path.chmod(0o1777)
    with pytest.raises(VptError, match=r"the file that is there cannot be replaced"):
        check_file(path)
    check_file(tmp_path / "new.txt")
    monkeypatch.undo()
    check_file(path)


def test_a_name_that_no_file_has_is_said(tmp_path: Path) -> None:
    no_file = pytest.raises(VptError, match="cannot be a file: embedded null byte")
    with no_file:
        check_file(tmp_path / "a\0b")
    with no_file, create_folder(tmp_path / "a\0b"):
        pytest.fail("the work began")


def test_a_check_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    check_file(path)
    assert names(tmp_path) == []
    path.write_text("old")
    check_file(path)
    assert (path.read_text(), names(tmp_path)) == ("old", ["file.txt"])


def test_files_are_on_the_disk_before_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    place = tmp_path / "folder"

    def fsync(handle: int) -> None:
        where = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append(f"{where.name.split('.')[0] or 'beside'} {place.exists()}")

    monkeypatch.setattr(os, "fsync", fsync)
    with replace_folder(place) as folder:
        (folder / "name").write_text("new")
    assert synced == ["name False", "beside False", f"{tmp_path.name} True"]
    synced.clear()
    StatisticsFile(tmp_path / "ranges.json", "key").save("pass", {"done": 1})
    assert synced == ["beside True", f"{tmp_path.name} True"]


def test_the_ranges_are_kept_where_a_later_save_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = StatisticsFile(tmp_path / "ranges.json", "key")
    cache.save("one", {"done": 1})

    def fail(handle: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        cache.save("two", {"done": 2})
    assert json.loads(cache.path.read_text())["passes"] == {"one": {"done": 1}}
    assert names(tmp_path) == ["ranges.json"]


@pytest.mark.usefixtures("swap")
def test_a_folder_is_replaced_whole(old: Path) -> None:
    with replace_folder(old) as folder:
        (folder / "other").write_text("new")
        assert names(old) == ["name"]
    assert names(old) == ["other"]
    assert names(old.parent) == ["place"]


@pytest.mark.usefixtures("swap")
def test_a_failure_leaves_the_old_folder_alone(old: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replace_folder(old) as folder:
        interrupt(folder / "other")
    assert names(old) == ["name"]
    assert names(old.parent) == ["place"]


@pytest.mark.parametrize("failing", [1, 2])
def test_an_error_between_two_renames_brings_the_old_folder_back(
    failing: int, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    rename = Path.rename
    calls = list[Path]()

    def fail(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == failing:
            raise OSError("no rename")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(VptError, match="no rename; remove"), replace_folder(old) as folder:
        (folder / "other").write_text("new")
    assert names(old) == ["name"]
    assert names(old.parent) == ["place"]


def test_ctrl_c_behind_the_second_rename_leaves_the_new_folder(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        rename(self, target)
        if target == old:
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), replace_folder(old) as folder:
        (folder / "other").write_text("new")
    assert names(old) == ["other"]
    assert names(old.parent) == ["place"]


def test_the_exchange_leaves_no_moment_without_a_folder(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux has it; its absence would be found here and not in the field."""

    def fail(self: Path, target: Path) -> Path:
        raise AssertionError("a rename of its own")

    monkeypatch.setattr(Path, "rename", fail)
    with replace_folder(old) as folder:
        (folder / "other").write_text("new")
    assert names(old) == ["other"]


@pytest.mark.usefixtures("swap")
def test_a_symlink_to_a_folder_is_followed(old: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    dangling = tmp_path / "dangling"
    link.symlink_to(old)
    dangling.symlink_to(tmp_path / "disk" / "folder")
    for place in (link, dangling):
        with replace_folder(place) as folder:
            (folder / "other").write_text("new")
        assert place.is_symlink()
        assert names(place) == ["other"]
    assert names(tmp_path) == ["dangling", "disk", "link", "place"]


def test_create_folder_replaces_nothing(old: Path) -> None:
    with pytest.raises(VptError, match="exists already"), create_folder(old):
        pytest.fail("the work began")
    late = old.with_name("late")
    with pytest.raises(VptError, match="exists already"), create_folder(late):
        old.rename(late)  # somebody was quicker
    assert names(late) == ["name"]
    assert names(late.parent) == ["late"]


def test_a_parent_that_takes_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(VptError, match=r"cannot write into .*file"),
        replace_folder(tmp_path / "file" / "folder"),
    ):
        pytest.fail("the work began")


def test_a_folder_that_cannot_be_moved_is_said_before_the_work(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another user in a sticky folder: asking by a rename that no system does."""
    asked: list[Path] = []

    def refuse(self: Path, target: Path) -> Path:
        asked.append(target)
        assert target.is_file()
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    with (
        pytest.raises(VptError, match=r"cannot replace .*place: Operation not permitted; remove"),
        replace_folder(old),
    ):
        pytest.fail("the work began")
    assert len(asked) == 1
    assert names(old) == ["name"]
    assert names(old.parent) == ["place"]
