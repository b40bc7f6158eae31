"""A watch's status file, and the verdict on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vpt_edge.live.health import INTERVAL, Health, check_health, find_problems
from vpt_edge.live.source import Counts, Source, State
from vpt_edge.runtime.errors import SourceError, VptError

if TYPE_CHECKING:
    from typing_extensions import Self

    from vpt_edge.live.frame import Frame


@dataclass
class Camera:
    """A source that stands where it is put."""

    name: str = "rtsp://door/stream"
    live: bool = True
    state: State = "live"
    counts: Counts = field(default_factory=Counts)
    problem: SourceError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def poll(self) -> Frame | None:
        return None

    def listen(self, notify: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        pass


class Clock:
    """Seconds since the machine's start; the wall clock may jump."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.wall = 1_795_000_000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "time", lambda: self.wall + self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status.json"


def sources(*cameras: Camera) -> list[Source]:
    return list(cameras)


def read(path: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(path.read_text())
    return status


def test_the_file_says_how_it_goes(path: Path, clock: Clock) -> None:
    camera = Camera(counts=Counts(frames=5, dropped=3, opens=2, losses=1))
    health = Health(path)
    health.beat(sources(camera), 0)
    clock.now += INTERVAL
    health.beat(sources(camera), 1)
    status = read(path)
    first = {"time": clock.wall + 1000.0, "monotonic": 1000.0}
    second = {"time": clock.wall + 1002.0, "monotonic": 1002.0}
    (row,) = status.pop("sources")
    assert row == {
        "name": "rtsp://door/stream",
        "live": True,
        "state": "live",
        "frames": 5,
        "dropped": 3,
        "opens": 2,
        "losses": 1,
        "undecoded": 0,
        "last_frame": first,
    }
    assert status == {
        "version": 1,
        "pid": os.getpid(),
        "answers": 1,
        "last_answer": second,
        **second,
    }
    assert [file.name for file in path.parent.iterdir()] == ["status.json"]


def test_it_is_written_at_most_once_in_two_seconds(path: Path, clock: Clock) -> None:
    """A loop of many turns writes no more than one of few; a count between is not lost."""
    camera = Camera()
    health = Health(path)
    written = set[float]()
    for turn in range(100):
        camera.counts.frames = turn
        health.beat(sources(camera), turn)
        written.add(read(path)["monotonic"])
        clock.now += 0.1
    assert len(written) == 5
    clock.now += INTERVAL
    health.beat(sources(camera), 99)
    assert read(path)["answers"] == 99
    assert read(path)["sources"][0]["last_frame"]["monotonic"] == pytest.approx(1009.9)


def test_two_sources_of_one_name_are_told_apart(path: Path, clock: Clock) -> None:
    cameras = sources(Camera(counts=Counts(frames=1)), Camera())
    Health(path).beat(cameras, 0)
    moments = [row["last_frame"] for row in read(path)["sources"]]
    assert moments[0] is not None
    assert moments[1] is None


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(VptError, match="its folder does not exist"):
        Health(tmp_path / "nowhere" / "status.json")


def test_a_watch_that_goes_well(path: Path, clock: Clock) -> None:
    Health(path).beat(sources(Camera(counts=Counts(frames=1))), 0)
    clock.now += 30
    clock.wall -= 86400  # a clock that jumps says nothing
    assert check_health(path, 30) == []


def test_a_watch_that_hangs(path: Path, clock: Clock) -> None:
    Health(path).beat(sources(Camera(counts=Counts(frames=1))), 0)
    clock.now += 31
    assert check_health(path, 30) == [
        f"process {os.getpid()} wrote its status 31 s ago: at most 30 s are allowed"
    ]


def test_a_watch_that_has_ended(path: Path) -> None:
    """Seen at once, not after the silence that is allowed."""
    code = (
        "import sys; from vpt_edge.live.health import Health; Health(sys.argv[1]).beat([], 0); "
        "import os; print(os.getpid())"
    )
    command = [sys.executable, "-c", code, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert check_health(path, 30) == [f"process {result.stdout.strip()} has ended"]


def test_a_status_from_before_the_machine_started(path: Path, clock: Clock) -> None:
    Health(path).beat([], 0)
    clock.now = 10.0
    (problem,) = check_health(path, 30)
    assert "before this machine was started" in problem


def test_a_camera_that_is_silent(path: Path, clock: Clock) -> None:
    """The watch lives, one of its cameras does not; a file and an ended source may be silent."""
    door = Camera(counts=Counts(frames=9), state="stalled")
    yard = Camera("rtsp://yard/stream", state="connecting")
    clip = Camera("clip.mp4", live=False)
    gone = Camera("rtsp://gone/stream", state="ended")
    health = Health(path)
    cameras = sources(door, yard, clip, gone)
    health.beat(cameras, 0)
    clock.now += 40
    health.beat(cameras, 0)
    assert check_health(path, 30) == [
        "rtsp://door/stream gave its last frame 40 s ago: stalled",
        "rtsp://yard/stream has given no frame yet: connecting",
    ]
    assert check_health(path, 60) == ["rtsp://yard/stream has given no frame yet: connecting"]


def test_a_file_that_nobody_has_written(path: Path) -> None:
    assert check_health(path, 30) == [
        f"{path} cannot be read (No such file or directory): no watch has written it"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"version": 2}',
        '{"version": 1}',
        '{"version": 1, "pid": "x", "monotonic": 0, "sources": []}',
        '{"version": 1, "pid": 1, "monotonic": "now", "sources": []}',
        "[" * 100_000,
        "\x00\xff",
    ],
)
def test_another_file_is_refused(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    path.write_text(text)
    assert check_health(path, 30) == [f"{path} is not a status file of vpt-watch"]


def test_the_check_loads_nothing_heavy() -> None:
    heavy = "{'av', 'onnxruntime', 'torch'}"
    code = f"import sys, vpt_edge.live.health; print({heavy} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_a_status_is_kept_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    health = Health()
    assert health.status is None
    camera = Camera(counts=Counts(frames=3, opens=1))
    health.beat([camera], 1)
    assert health.status is not None
    assert find_problems(health.status, 10.0) == []
    clock.now += 11
    assert "wrote its status 11 s ago" in find_problems(health.status, 10.0)[0]
