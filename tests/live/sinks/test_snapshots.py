"""Folders that are whole and that never fill a disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import answer, seen
from golden import ROOT
from PIL import Image
from sources import frame

from vpt_edge.live.seen import Seen
from vpt_edge.live.sinks.snapshots import Snapshots
from vpt_edge.runtime.errors import SinkError

WRITE = """
import sys
sys.path[:0] = [{tests!r}]
from answers import seen
from vpt_edge.live.sinks.snapshots import Snapshots
sink = Snapshots(sys.argv[1], count=5)
for number in range(100000):
    sink.put(seen(number))
    print(number, flush=True)
"""
FILES = ["answer.json", "picture.jpg"]


def look(number: int = 0) -> Seen:
    """With two looks, one of them at nothing."""
    pixels = np.full((64, 96, 3), 200, np.uint8)
    said = answer("yes", pixels, (8, 16, 48, 40), (0, 0, 0, 0))
    return Seen(frame(number, pixels), "Open?", said, 0.1, 0.4)


def tree(folder: Path) -> dict[str, list[str]]:
    return {
        entry.name: sorted(file.name for file in entry.iterdir())
        for entry in sorted(folder.iterdir())
    }


def read(folder: Path) -> Any:
    return json.loads((folder / "answer.json").read_text())


def test_a_folder_has_the_picture_its_crops_and_the_words(tmp_path: Path) -> None:
    sink = Snapshots(tmp_path / "shots")
    sink.put(look())
    folder = tmp_path / "shots" / "00000000"
    assert tree(tmp_path / "shots") == {"00000000": ["answer.json", "crop_0.jpg", "picture.jpg"]}
    assert read(folder) == look().to_dict()
    with Image.open(folder / "picture.jpg") as picture, Image.open(folder / "crop_0.jpg") as crop:
        assert picture.size == (96, 64)
        assert crop.size == (40, 24)
        assert np.asarray(picture).mean() == pytest.approx(200, abs=2)


def test_the_oldest_go_first(tmp_path: Path) -> None:
    sink = Snapshots(tmp_path, count=3)
    for number in range(7):
        sink.put(seen(number))
    assert tree(tmp_path) == {f"{number:08}": FILES for number in (4, 5, 6)}


def test_bytes_are_bounded(tmp_path: Path) -> None:
    sink = Snapshots(tmp_path)
    sink.put(seen(0))
    size = sum(file.stat().st_size for file in (tmp_path / "00000000").iterdir())
    sink = Snapshots(tmp_path, limit=3 * size + 30)
    for number in range(5):
        sink.put(seen(number))
    assert list(tree(tmp_path)) == ["00000003", "00000004", "00000005"]


def test_the_newest_stays_however_large_it_is(tmp_path: Path) -> None:
    sink = Snapshots(tmp_path, count=0, limit=1)
    sink.put(seen(0))
    sink.put(seen(1))
    assert list(tree(tmp_path)) == ["00000001"]


def test_a_later_watch_goes_on_and_touches_nothing_else(tmp_path: Path) -> None:
    for number in range(3):
        Snapshots(tmp_path, count=3).put(seen(number))
    (tmp_path / "0001").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "notes.txt").touch()
    sink = Snapshots(tmp_path, count=2)
    sink.put(seen(3))
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {"0001", "mine", "notes.txt", "00000002", "00000003"}


def test_what_somebody_removed_is_not_missed(tmp_path: Path) -> None:
    sink = Snapshots(tmp_path, count=1)
    sink.put(seen(0))
    for file in (tmp_path / "00000000").iterdir():
        file.unlink()
    (tmp_path / "00000000").rmdir()
    sink.put(seen(1))
    assert list(tree(tmp_path)) == ["00000001"]


def test_after_kill_9_each_folder_is_whole_and_what_is_half_goes(tmp_path: Path) -> None:
    code = WRITE.format(tests=str(ROOT / "tests"))
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(8):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for folder in tmp_path.glob("[0-9]*"):
            assert sorted(file.name for file in folder.iterdir()) == FILES
    Snapshots(tmp_path, count=5).put(seen(99))
    assert len(list(tmp_path.glob("[0-9]*"))) == 5
    assert not list(tmp_path.glob(".*.vpt-partial"))


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "shots"):
        with pytest.raises(SinkError, match="file is not a folder; choose another name"):
            Snapshots(path)
