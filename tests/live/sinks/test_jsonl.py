"""Lines that are whole, whenever their writer dies."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from answers import seen
from golden import ROOT

from vpt_edge.live.sinks.jsonl import JsonLines, JsonStream, format_line
from vpt_edge.runtime.errors import SinkError, VptError

LENGTH = len(format_line(seen().to_dict()))
WRITE = """
import sys
sys.path[:0] = [{tests!r}]
from answers import seen
from vpt_edge.live.sinks.jsonl import JsonLines
lines = JsonLines(sys.argv[1], rotate=1 << 30)
print("writes", flush=True)
number = 0
while True:
    lines.put(seen(number, "x" * 200_000))
    number += 1
"""


def read(path: Path) -> list[Any]:
    return [json.loads(line)["frame"] for line in path.read_text("utf-8").splitlines()]


def write(path: Path, *numbers: int, **options: int) -> None:
    lines = JsonLines(path, **options)
    for number in numbers:
        lines.put(seen(number))
    lines.close()


def test_each_line_is_there_at_once_and_more_are_added(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    lines = JsonLines(path)
    assert not path.exists()
    lines.put(seen(0))
    assert read(path) == [0]
    lines.put(seen(1))
    lines.close()
    write(path, 2)
    assert read(path) == [0, 1, 2]


def test_a_file_is_rotated_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, *range(9), rotate=2 * LENGTH + 10, keep=2)
    files = {file.name: read(file) for file in tmp_path.iterdir()}
    assert files == {
        "answers.jsonl": [8],
        "answers.jsonl.1": [6, 7],
        "answers.jsonl.2": [4, 5],
    }


def test_without_older_files_the_newest_answers_stay(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, *range(5), rotate=2 * LENGTH + 10, keep=0)
    assert {file.name: read(file) for file in tmp_path.iterdir()} == {"answers.jsonl": [4]}


def test_a_line_that_is_longer_than_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 0, 1, rotate=10, keep=1)
    assert read(path) == [1]
    assert read(tmp_path / "answers.jsonl.1") == [0]


@pytest.mark.parametrize("half", [b'{"half', b"{" + b"x" * 200_000])
def test_half_a_line_is_taken_away(half: bytes, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(half)
    write(path, 0)
    with path.open("ab") as file:
        file.write(half)
    write(path, 1)
    assert read(path) == [0, 1]


def test_after_kill_9_every_whole_line_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    code = WRITE.format(tests=str(ROOT / "tests"))
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while not path.exists() or path.stat().st_size < 2_000_000:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
    assert [json.loads(line)["frame"] for line in whole] == list(range(len(whole)))
    write(path, 99)
    assert read(path) == [*range(len(whole)), 99]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """A limit of the process stands in for it."""
    path = tmp_path / "answers.jsonl"
    lines = JsonLines(path)
    lines.put(seen(0))
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for room in (LENGTH // 2, 0):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, before[1]))
            with pytest.raises((SinkError, OSError)):
                lines.put(seen(1))
            assert read(path) == [0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    lines.put(seen(2))
    assert read(path) == [0, 2]


def test_what_a_model_says_is_safe_and_whole() -> None:
    said = 'a\n"b" \x1b[2J 答 \u202e\ud800'
    stream = io.BytesIO()
    JsonStream(stream).put(seen(0, said))
    line = stream.getvalue()
    assert line.endswith(b"}\n")
    assert b"\x1b" not in line and "\u202e".encode() not in line
    assert "答".encode() in line
    assert json.loads(line)["answer"] == said


def test_where_no_such_file_can_be(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(SinkError, match="holds something else than lines of JSON"):
        JsonLines(notes)
    with pytest.raises(VptError, match="its folder does not exist"):
        JsonLines(tmp_path / "no" / "answers.jsonl")
    with pytest.raises(VptError, match="is not a regular file"):
        JsonLines(tmp_path)
    assert notes.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.touch(0o444)
    with pytest.raises(SinkError, match="no permission"):
        JsonLines(path)


@pytest.mark.parametrize("is_renamed", [True, False])
def test_a_file_that_others_take_away_is_begun_anew(tmp_path: Path, is_renamed: bool) -> None:
    path = tmp_path / "answers.jsonl"
    lines = JsonLines(path)
    lines.put(seen(0))
    if is_renamed:
        path.rename(tmp_path / "answers.old")
    else:
        path.unlink()
    lines.put(seen(1))
    lines.put(seen(2))
    lines.close()
    assert read(path) == [1, 2]
    assert not is_renamed or read(tmp_path / "answers.old") == [0]


def test_one_that_others_put_in_its_place_is_gone_on_with(tmp_path: Path) -> None:
    """As by logrotate with ``create``."""
    path = tmp_path / "answers.jsonl"
    lines = JsonLines(path)
    lines.put(seen(0))
    path.unlink()
    path.touch(0o640)
    lines.put(seen(1))
    lines.close()
    assert read(path) == [1]


def test_another_kind_of_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    lines = JsonLines(path)
    lines.put(seen(0))
    path.unlink()
    path.write_text("notes of somebody")
    with pytest.raises(SinkError, match="holds something else"):
        lines.put(seen(1))
    assert path.read_text() == "notes of somebody"
    path.unlink()
    lines.put(seen(2))
    lines.close()
    assert read(path) == [2]


def test_who_may_read_a_file_may_read_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    lines = JsonLines(path, rotate=LENGTH, mode=0o600)
    lines.put(seen(0))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o664)
    lines.put(seen(1))
    lines.close()
    assert read(tmp_path / "answers.jsonl.1") == [0]
    assert path.stat().st_mode & 0o777 == 0o664
