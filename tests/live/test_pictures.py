"""Folders and patterns give their pictures and clips in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clip
from PIL import Image

from vpt_edge import live
from vpt_edge.live.source import each_frame
from vpt_edge.runtime.errors import SourceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (10, 9, 1):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"shot{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def reds(source: live.Source) -> list[int]:
    return [int(frame.pixels[0, 0, 0]) for frame in each_frame(source)]


def test_a_folder_is_in_order(folder: Path) -> None:
    assert reds(live.open(folder)) == [1, 9, 10]
    assert reds(live.open(f"file://{folder}")) == [1, 9, 10]
    assert reds(live.open(folder, loop=1)) == [1, 9, 10, 1, 9, 10]


def test_a_pattern_is_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reds(live.open(f"{folder}/shot1*.png")) == [1, 10]
    monkeypatch.chdir(folder)
    assert reds(live.open("shot?.png")) == [1, 9]
    assert reds(live.open("**/shot[9].png")) == [9]


def test_one_picture_is_a_source(folder: Path) -> None:
    assert reds(live.open(folder / "shot9.png")) == [9]


def test_a_name_with_a_bracket_is_a_name(folder: Path) -> None:
    (folder / "shot1.png").rename(folder / "shot[1].png")
    assert reds(live.open(folder / "shot[1].png")) == [1]


def test_their_rate_places_them(folder: Path) -> None:
    assert [frame.position for frame in each_frame(live.open(folder))] == [0, 1, 2]
    positions = [frame.position for frame in each_frame(live.open(folder, rate=4))]
    assert positions == [0, 0.25, 0.5]


def test_clips_stand_between_pictures(folder: Path) -> None:
    write_clip(folder / "shot5.mp4", 30)
    frames = list(each_frame(live.open(folder)))
    assert [frame.number for frame in frames] == list(range(33))
    positions = [frame.position for frame in frames]
    assert positions == sorted(set(positions))
    assert 2.9 < positions[-2] - positions[1] + 1 < 3.1


def test_one_that_is_broken_is_passed_over_and_said(folder: Path) -> None:
    (folder / "shot2.png").write_bytes(b"nothing")
    (folder / "shot3.mp4").write_bytes(b"nothing")
    source = live.open(folder)
    for level in (1, 9, 10):
        frame = source.poll()
        assert frame is not None and frame.pixels[0, 0, 0] == level
    with pytest.raises(SourceError, match=r"2 of 5 files of .*shot2\.png is not a picture"):
        source.poll()


def test_nothing_to_give_is_said(tmp_path: Path) -> None:
    for place in (tmp_path, f"{tmp_path}/*.jpg"):
        with pytest.raises(SourceError, match="no picture and no clip in"):
            live.open(place)
