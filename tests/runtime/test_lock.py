"""One writer a place, whoever dies."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from pathlib import Path

import pytest
from locks import held

from vpt_edge.runtime import lock
from vpt_edge.runtime.lock import LockedError, lock_file, lock_place, read_writer


def test_a_second_writer_is_told_of_the_first(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with held(place, "export") as process:
        assert read_writer(place) == f"process {process}"
        with (
            pytest.raises(LockedError, match=rf"another export is writing here .*{process}"),
            lock_place(place, "export"),
        ):
            pytest.fail("two at once")
        with lock_place(tmp_path / "other", "export"):
            pass


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with held(place, "export"):
        pass
    assert lock_file(place).exists()  # it was killed
    assert read_writer(place) is None
    with lock_place(place, "export") as is_held:
        assert is_held
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_held_in_this_process_counts_as_well(tmp_path: Path) -> None:
    with (
        lock_place(tmp_path / "place", "export"),
        pytest.raises(LockedError, match=f"process {os.getpid()}"),
        lock_place(tmp_path / "place", "export"),
    ):
        pytest.fail("two at once")


def test_a_lock_that_vanishes_while_it_is_taken_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before removes it between the opening and the locking."""
    place = tmp_path / "place"
    try_lock = lock.try_lock
    calls = list[int]()

    def vanish(handle: int) -> bool:
        if not calls:
            lock_file(place).unlink()
        calls.append(handle)
        return try_lock(handle)

    monkeypatch.setattr(lock, "try_lock", vanish)
    with lock_place(place, "export") as is_held:
        assert is_held
        assert lock_file(place).exists()
    assert len(calls) == 2


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock, "try_lock", refuse)
    with (
        pytest.warns(UserWarning, match="file system without locks: another export"),
        lock_place(tmp_path / "place", "export") as is_held,
    ):
        assert not is_held
    assert list(tmp_path.iterdir()) == []


def test_only_one_of_many_threads_writes(tmp_path: Path) -> None:
    inside = list[int]()
    most = list[int]()

    def write() -> None:
        for _ in range(50):
            try:
                with lock_place(tmp_path / "place", "export"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except LockedError:
                continue

    threads = [threading.Thread(target=write) for _ in range(8)]
    with warnings.catch_warnings():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(most) == {1}
    assert list(tmp_path.iterdir()) == []
