"""What waits on the disk stays whole, in order and within its bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vpt_edge.live.sinks.spool import Spool
from vpt_edge.runtime.errors import SinkError

KILLED = """
import os, sys
from vpt_edge.live.sinks.spool import Spool
spool = Spool(sys.argv[1], 10, 100)
spool.append(b"whole")
module, name = sys.argv[2:]
setattr({"os": os, "Spool": Spool}[module], name, lambda *_: os.kill(os.getpid(), 9))
spool.append(b"more")
"""


def contents(spool: Spool) -> list[bytes | None]:
    return [spool.read(letter) for letter in spool.letters()]


def test_in_order_over_several_lives(tmp_path: Path) -> None:
    for number in range(12):
        Spool(tmp_path / "a/b", 100, 1000).append(b"%d" % number)
    spool = Spool(tmp_path / "a/b", 100, 1000)
    assert contents(spool) == [b"%d" % number for number in range(12)]
    assert len({letter.id for letter in spool.letters()}) == 12
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700


def test_the_oldest_are_dropped_by_count(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 3, 1000)
    assert [spool.append(b"%d" % number) for number in range(5)] == [0, 0, 0, 1, 1]
    assert contents(spool) == [b"2", b"3", b"4"]


def test_and_by_bytes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100, 10)
    assert spool.append(b"12345") == 0
    assert spool.append(b"12345") == 0
    assert spool.append(b"1") == 1
    assert spool.append(b"1234567890") == 2
    with pytest.raises(SinkError, match="has 11 bytes, of at most 10"):
        spool.append(b"12345678901")
    assert contents(spool) == [b"1234567890"]


def test_an_order_that_was_kept_after_all_were_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100, 1000)
    spool.append(b"1")
    spool.append(b"2")
    first = spool.letters()[0]
    spool.remove(first)
    spool.remove(first)
    assert spool.read(first) is None
    spool.append(b"3")
    assert contents(spool) == [b"2", b"3"]


@pytest.mark.parametrize(
    ("moment", "expected"), [("os fsync", [b"whole"]), ("Spool _publish", [b"whole", b"more"])]
)
def test_a_killed_writer_leaves_whole_letters(
    moment: str, expected: list[bytes], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), *moment.split()]
    assert subprocess.run(command, check=False).returncode == -9
    for folder in (tmp_path, tmp_path / "new"):
        (folder / "notes.txt").touch()
    assert len(list((tmp_path / "new").iterdir())) == 2
    spool = Spool(tmp_path, 10, 100)
    assert contents(spool) == expected
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").exists()


def test_what_another_process_keeps_counts_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.spool.FRESH", 0.0)
    spools = [Spool(tmp_path, 3, 100) for _ in range(2)]
    assert [spools[number % 2].append(b"%d" % number) for number in range(5)] == [0, 0, 0, 1, 1]
    assert contents(spools[0]) == [b"2", b"3", b"4"]


def test_one_sends_at_a_time(tmp_path: Path) -> None:
    one = Spool(tmp_path, 10, 100)
    other = Spool(tmp_path, 10, 100)
    assert one.may_send()
    assert one.may_send()
    assert not other.may_send()
    one.close()
    assert other.may_send()
    other.close()


def test_a_folder_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a", 10, 100)
    (tmp_path / "a/new").rmdir()
    (tmp_path / "a").rmdir()
    spool.append(b"1")
    assert contents(spool) == [b"1"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SinkError, match="ermission"):
        Spool(tmp_path, 10, 100)
