"""What ``make demo`` and ``make figures`` run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import av
import figures
import pytest
import run
import watch
from golden import DEMO
from PIL import Image
from sheet import GAP, LINE, TILE, join

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from golden import Exporter


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle(exported: Exporter) -> str:
    return str(exported(DEMO).path)


def test_unseen_signs_are_asked_about(
    bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", bundle, "--out", str(tmp_path), "--count", "2"])
    run.main()
    printed = capsys.readouterr().out
    assert printed.count("question  ") == 8 and " of 8 answers are right" in printed
    assert printed.count("looked again at cells ") == 2
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["overlay_0.png", "overlay_1.png", "sheet.png"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * (TILE + GAP) + GAP, TILE + 2 * LINE + 2 * GAP)


def test_moving_signs_are_watched(
    bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["watch.py", bundle, "--out", str(tmp_path), "--count", "2"])
    watch.main()
    assert " of 2 answers are right" in capsys.readouterr().out
    with av.open(str(tmp_path / "live.mp4")) as video:
        assert len(list(video.decode(video=0))) > 2


def test_a_bundle_agrees_with_itself(
    bundle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["figures.py", bundle, bundle, "--count", "2"])
    figures.main()
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.endswith("| 100.0% | 100.0% |")


def test_a_sheet_has_rows() -> None:
    tiles = [Image.new("RGB", (TILE, TILE)) for _ in range(7)]
    assert join(tiles).size == (6 * (TILE + GAP) + GAP, 2 * (TILE + GAP) + GAP)


def test_no_picture_is_no_sheet() -> None:
    with pytest.raises(VptError, match="no picture for the sheet"):
        join([])
