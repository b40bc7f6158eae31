"""Chunks are drawn once, the same by whoever draws them, and waited for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from signs.draw import Drawer
from signs.pool import Painters, Pool

from vpt_edge.live.signs.words import CHARACTERS, LONGEST, SHORTEST
from vpt_edge.runtime.errors import VptError


def count_up(chunk: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(chunk * size, (chunk + 1) * size)


def test_records_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool", count_up, 3, 4)
    pool.fill(lambda: True)
    assert pool.is_full()
    assert pool.take([9, 0, 4, 9], lambda: False).tolist() == [9, 0, 4, 9]


def test_what_is_missing_is_drawn_by_another_process(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool", count_up, 3, 4)
    pool.fill(lambda: not pool.path(0).exists())
    assert [pool.path(chunk).exists() for chunk in range(3)] == [True, False, False]
    before = pool.path(0).stat().st_mtime_ns
    with Painters([pool]) as painters:
        assert painters.take(pool, [11]).tolist() == [11]
    assert pool.is_full() and pool.path(0).stat().st_mtime_ns == before
    assert not list(pool.folder.glob("*.part"))


def test_nobody_is_waited_for_in_vain(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool", count_up, 3, 4)
    with pytest.raises(VptError, match=r"0000.npy is missing, and nobody draws it; start"):
        Painters([pool]).take(pool, [1])


def test_windows_are_the_same_whenever_they_are_drawn() -> None:
    first, again, other = (Drawer(seed, "training", 10).windows(3, 4) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_words_and_their_conditions_grow_harder() -> None:
    drawer = Drawer(1, "training", 20)
    lengths = [drawer.longest(chunk) for chunk in range(20)]
    assert lengths[0] == SHORTEST + 1 and lengths[6:] == [LONGEST] * 14
    assert lengths == sorted(lengths)
    assert [drawer.harshness(chunk) for chunk in (0, 3, 6, 19)] == [0, 0.5, 1, 1]
    assert Drawer(1, "test").harshness(0) == 1
    text = drawer.windows(0, 4)["text"]
    assert ((text >= 0).sum(1) <= SHORTEST + 1).all()
    assert text.max() < len(CHARACTERS)


def test_crops_of_small_pictures_are_smaller() -> None:
    drawer = Drawer(1, "training")
    records = drawer.scenes(0, 8)
    for index, record in enumerate(records):
        assert (record["shown"] < 224) == drawer.is_small(index) == (drawer.side(index) == 512)
        sign, look = drawer.look(index, drawer.scene(index))
        assert (record["sign"], tuple(record["look"])) == (sign, look)
