"""A short watch of moving scenes finds nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import av
from golden import DEMO, Exporter

from benchmarks import watch_soak

if TYPE_CHECKING:
    import pytest


def test_moving_scenes_are_answered_as_still_ones(
    exported: Exporter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(exported(DEMO).path)
    code = watch_soak.main([bundle, "--minutes", "0.1", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    with av.open(str(tmp_path / "watch.mp4")) as video:
        assert len(list(video.decode(video=0))) > 10
