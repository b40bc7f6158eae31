"""Photographs are found, and those of the test are kept from training."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vpt_edge.live.signs.grounds import PHOTOGRAPHS, Grounds, find_photographs, find_pictures
from vpt_edge.runtime.errors import ImageError, VptError


def test_no_photograph_is_of_both_parts() -> None:
    training = set(find_photographs("training"))
    test = set(find_photographs("test"))
    assert training and test and not training & test
    assert len(training) == len(PHOTOGRAPHS["training"])


def test_scikit_image_is_not_imported() -> None:
    code = (
        "import sys; from vpt_edge.live.signs.grounds import *;"
        "Grounds(find_photographs('test')).open(0, 512); print('skimage' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_every_photograph_is_large_enough() -> None:
    for part in ("training", "test"):
        paths = find_photographs(part)
        grounds = Grounds(paths)
        for number in range(len(paths)):
            pixels = grounds.open(number, 512)
            assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
            assert min(pixels.shape[:2]) == pytest.approx(1.3 * 512, abs=1)


def test_without_scikit_image_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VptError) as caught:
        find_photographs("test")
    assert str(caught.value).endswith("pip install 'vpt-edge[signs]'")


def test_a_photograph_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    monkeypatch.setattr(spec, "submodule_search_locations", [str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(VptError, match=f"without {PHOTOGRAPHS['test'][0]}"):
        find_photographs("test")


def test_a_folder_is_taken_by_its_names(tmp_path: Path) -> None:
    for name, size in (("b.png", (40, 30)), ("a.JPG", (30, 400)), ("notes.txt", (1, 1))):
        Image.new("RGB", size, "red").save(tmp_path / name, "png")
    paths = find_pictures(tmp_path)
    assert [path.name for path in paths] == ["a.JPG", "b.png"]
    grounds = Grounds(paths)
    assert grounds.open(0, 100).shape == (260, 130, 3), "a long one is cut"
    assert grounds.open(3, 100).shape == (130, 173, 3), "counted round"


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VptError, match="holds no pictures, expected"):
        find_pictures(tmp_path)
    with pytest.raises(VptError, match="no folder at"):
        find_pictures(tmp_path / "nowhere")


def test_a_damaged_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"a\.png is not a picture"):
        Grounds([path]).open(0, 512)
