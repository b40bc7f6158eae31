"""Pictures of signs are written with their truth."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import scenes
from PIL import Image

from vpt_edge import live
from vpt_edge.calibration.samples import read_samples
from vpt_edge.runtime.image import open_picture


@pytest.fixture(name="grounds")
def fixture_grounds(tmp_path: Path) -> Path:
    folder = tmp_path / "grounds"
    folder.mkdir()
    Image.new("RGB", (300, 200), (90, 120, 90)).save(folder / "green.png")
    return folder


def write(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> Path:
    monkeypatch.setattr(sys, "argv", ["scenes.py", "--out", str(folder), *options])
    scenes.main()
    return folder


def test_pictures_come_with_questions_places_and_a_sheet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, grounds: Path
) -> None:
    options = ("--seed", "3", "--count", "3", "--side", "512", "--grounds", str(grounds))
    folder = write(monkeypatch, tmp_path / "first", *options)
    samples = read_samples(folder / "data.jsonl").samples
    assert len(samples) == 12 and {sample.perception for sample in samples} == {
        *("region", "reencode", "free")
    }
    lines = [json.loads(line) for line in (folder / "signs.jsonl").read_text("utf-8").splitlines()]
    assert [line["image"] for line in lines] == ["00000.png", "00001.png", "00002.png"]
    for line in lines:
        assert open_picture(folder / line["image"]).size == (512, 512)
        texts = {sign["text"] for sign in line["signs"]}
        read = next(sample for sample in samples if sample.image.name == line["image"])
        assert read.answer in texts
        for sign in line["signs"]:
            left, top, right, bottom = sign["box"]
            column, row = sign["cell"]
            assert left < (column + 1) * 64 and right > column * 64
            assert top < (row + 1) * 64 and bottom > row * 64
    assert open_picture(folder / "sheet.png").width > 900
    again = write(monkeypatch, tmp_path / "again", *options)
    for name in ("00002.png", "data.jsonl", "signs.jsonl"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_video_comes_with_the_truth_of_each_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, grounds: Path
) -> None:
    options = ("--seconds", "2", "--side", "512", "--grounds", str(grounds))
    folder = write(monkeypatch, tmp_path / "video", *options)
    lines = [json.loads(line) for line in (folder / "truth.jsonl").read_text("utf-8").splitlines()]
    assert [line["position"] for line in lines] == [0, 1]
    assert any(question.startswith("What does the") for question in lines[0]["truth"])
    with live.open(folder / "signs.mp4") as source:
        frame = source.poll()
        assert frame is not None and frame.pixels.shape == (512, 512, 3)
