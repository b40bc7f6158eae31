"""A file that any player shows, as long as it was written."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from answers import seen
from golden import ROOT
from sources import frame

from vpt_edge.live.sinks.mp4 import Mp4
from vpt_edge.live.sinks.video import Video
from vpt_edge.runtime.errors import SinkError, VptError

FILM = """
import sys, time
sys.path[:0] = [{tests!r}]
import numpy as np
from sources import frame
from vpt_edge.live.sinks.video import Video
video = Video(sys.argv[1], "test")
noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
for number in range(100000):
    video.put(frame(number, np.roll(noise, number, 1)))
    print(number, flush=True)
    time.sleep(0.001)
"""


def plain(level: int, width: int = 96, height: int = 64) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), level, np.uint8)


def film(path: Path, frames: Any, **options: Any) -> None:
    video = Video(path, "test", **options)
    for each in frames:
        video.put(each)
    video.close()


def play(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def play_cut(path: Path) -> list[av.VideoFrame]:
    """What a player shows of a file that may end in the midst of a picture."""
    shown = []
    with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
        for each in container.decode(video=0):
            shown.append(each)
    return shown


def times(path: Path) -> list[float]:
    return [round(float(each.time), 3) for each in play(path) if each.time is not None]


def test_each_frame_is_there_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    film(path, [frame(number, plain(20 * number)) for number in range(10)])
    assert times(path) == [round(number / 25, 3) for number in range(10)]
    for number, each in enumerate(play(path)):
        assert each.to_ndarray(format="rgb24").mean() == pytest.approx(20 * number, abs=3)


def test_a_pause_of_the_source_is_one_of_the_video(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    film(path, [frame(0), frame(1, position=7.25), frame(2, position=7.29)])
    assert times(path) == [0, 7.25, 7.29]


def test_a_time_that_runs_backwards_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    film(path, [frame(0, position=at) for at in (0, 1, 2, 0, 1, 1)])
    assert times(path) == [0, 1, 2, 2.033, 3.033, 3.067]


@pytest.mark.parametrize("rate", [5, 12.5, 100])
def test_a_rate_bounds_it(rate: float, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    film(path, [frame(number) for number in range(50)], rate=rate)
    assert len(times(path)) == min(50, 2 * rate)


def test_answers_are_drawn_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    black = plain(0, 320, 240)
    answers = [seen(0, "yes", pixels=black), seen(1, source="other", pixels=black)]
    film(path, [frame(0, black), answers[1], frame(1, black), answers[0], frame(2, black)])
    brightest = [each.to_ndarray(format="rgb24").max() for each in play(path)]
    assert [level > 200 for level in brightest] == [False, False, True]


def test_another_source_is_not_in_it(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    film(path, [frame(0), frame(1, source="other"), frame(2)])
    assert times(path) == [0, 0.08]


def test_colours_are_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    colours = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (255, 255, 255), (0, 0, 0)]
    pictures = [np.full((720, 1280, 3), colour, np.uint8) for colour in colours]
    film(path, [frame(number, picture) for number, picture in enumerate(pictures)])
    for each, colour in zip(play(path), colours, strict=True):
        assert each.colorspace == 1
        rgb = each.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
        assert rgb.reshape(-1, 3).mean(0) == pytest.approx(colour, abs=4)


def test_a_picture_that_changes_its_size_is_fitted(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sizes = [(97, 65), (96, 64), (640, 360), (3, 900), (1, 1)]
    film(path, [frame(index, plain(200, *size)) for index, size in enumerate(sizes)])
    shown = play(path)
    assert {(each.width, each.height) for each in shown} == {(96, 64)}
    wide = shown[2].to_ndarray(format="rgb24")
    assert wide[32, 48].mean() > 150 and wide[1, 48].mean() < 50


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 3), (1, 64)])
def test_a_tiny_picture_is_a_video(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    film(path, [frame(0, plain(9, *size))])
    assert len(play(path)) == 1


def test_after_kill_9_it_plays_but_for_its_last_second(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    code = FILM.format(tests=str(ROOT / "tests"))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 200:
        pass
    process.send_signal(signal.SIGKILL)
    written, _ = process.communicate()
    last = [200, *map(int, written.split())][-1] / 25
    played = [round(float(each.time), 3) for each in play_cut(path) if each.time is not None]
    assert played == [round(number / 25, 3) for number in range(len(played))]
    assert last - played[-1] < 1.2


def test_a_player_can_begin_every_two_seconds(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    film(path, [frame(number) for number in range(160)])
    keys = [each.time for each in play(path) if each.key_frame]
    assert keys == [0, 2, 4, 6]


def test_nothing_is_left_of_a_watch_without_a_frame(tmp_path: Path) -> None:
    film(tmp_path / "out.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_where_no_video_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SinkError, match=r"expected a name that ends with \.mp4"):
        Video(tmp_path / "out.avi", "test")
    with pytest.raises(VptError, match="its folder does not exist"):
        Video(tmp_path / "no" / "out.mp4", "test")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SinkError, match=r"a video needs PyAV; pip install 'vpt-edge\[live\]'"):
        Video(tmp_path / "out.mp4", "test")


def test_a_full_disk_ends_it_and_what_was_written_plays(tmp_path: Path) -> None:
    """A limit of the process stands in for it."""
    path = tmp_path / "out.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    video = Video(path, "test")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    failures = 0
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
        for number in range(100):
            try:
                video.put(frame(number, np.roll(noise, number, 1)))
            except SinkError:
                failures += 1
        with pytest.raises(SinkError, match=r"out\.mp4 ends here: "):
            video.put(frame(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert 0 < failures < 90
    assert len(play(path)) > 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_place_went_away(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    video = Video(folder / "out.mp4", "test")
    folder.rmdir()
    with pytest.raises(SinkError, match=r"cannot write .*: No such file"):
        video.put(frame(0))
    folder.mkdir()
    video.put(frame(1))
    video.close()
    assert len(play(folder / "out.mp4")) == 1


def test_an_encoder_keeps_no_frame_back(tmp_path: Path) -> None:
    """Zero latency: what was written is in the file when the next fragment begins."""
    mp4 = Mp4(tmp_path / "out.mp4", (96, 64))
    for number in range(60):
        mp4.write(frame(number).image, number / 25)
    assert len(play(tmp_path / "out.mp4")) >= 25
    mp4.close()
