"""A capture that the application opened is read; cv2 itself where it is installed."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import level_of, write_clip
from feeds import PATIENCE, wait_for

from vpt_edge import live
from vpt_edge.live import opencv
from vpt_edge.live.source import each_frame
from vpt_edge.runtime.errors import SourceError


class VideoCapture:
    """As cv2's, of ``count`` pictures: blue, 255 bright; its red is the picture's index."""

    def __init__(self, count: int, is_file: bool, threads: int = 1) -> None:
        self.count = count
        self.properties = {
            opencv.FRAME_COUNT: float(count) if is_file else -1.0,
            opencv.N_THREADS: float(threads),
        }
        self.index = 0
        self.gate = threading.Event()
        self.released = False
        self.is_open = True

    def isOpened(self) -> bool:  # noqa: N802
        return self.is_open

    def get(self, name: int) -> float:
        if name == opencv.POS_MSEC:
            return 40.0 * self.index
        return self.properties[name]

    def read(self) -> tuple[bool, Any]:
        if self.index == self.count:
            self.gate.wait(PATIENCE)
            return False, None
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[:, :, 0] = 255
        pixels[:, :, 2] = self.index
        self.index += 1
        return True, pixels


def test_a_file_gives_every_picture_with_red_first() -> None:
    capture = VideoCapture(4, is_file=True)
    capture.gate.set()
    source = live.open(capture)
    frames = list(each_frame(source))
    assert not source.live
    assert [frame.pixels[0, 0].tolist() for frame in frames] == [[n, 0, 255] for n in range(4)]
    assert np.allclose([frame.position for frame in frames], [0, 0.04, 0.08, 0.12])
    assert frames[0].raster.to_luma(3, 2).shape == (2, 3)
    assert frames[0].raster.to_luma(3, 2).max() < 40, "blue is dark"


def test_a_camera_gives_the_newest_and_its_end_is_an_error() -> None:
    capture = VideoCapture(5, is_file=False)
    with live.open(capture) as source:
        wait_for(source, lambda: source.counts.frames == 5)
        frame = source.poll()
        assert frame is not None and frame.number == 4
        capture.gate.set()
        wait_for(source, lambda: source.state == "ended")
        with pytest.raises(SourceError, match="only who opened it can open it again"):
            source.poll()
    assert not capture.released


def test_one_that_is_not_open_is_said() -> None:
    capture = VideoCapture(1, is_file=True)
    capture.is_open = False
    with pytest.raises(SourceError, match="cv2 does not say why"):
        live.open(capture)


def test_threads_that_make_it_late_are_hinted_at() -> None:
    capture = VideoCapture(1, is_file=False, threads=12)
    capture.gate.set()
    with pytest.warns(UserWarning, match="12 threads.*CAP_PROP_N_THREADS, 1"):
        live.open(capture).close()


def test_grey_is_not_a_picture() -> None:
    capture = VideoCapture(1, is_file=True)
    capture.read = lambda: (True, np.zeros((4, 6), np.uint8))  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="CAP_PROP_CONVERT_RGB"):
        live.open(capture).poll()


@pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None,
    reason="cv2 is missing: pip install opencv-python-headless",
)
def test_the_real_one_is_read(tmp_path: Path) -> None:
    import cv2

    path = write_clip(tmp_path / "clip.mp4", 20)
    capture = cv2.VideoCapture(str(path))
    frames = list(each_frame(live.open(capture)))
    capture.release()
    assert [level_of(frame.pixels) for frame in frames] == list(range(20))
    assert frames[0].pixels[5, 5, 0] > 200 > frames[0].pixels[5, 5, 2], "red, not blue"
    assert np.allclose([frame.position for frame in frames], np.arange(20) / 30, atol=1e-3)
