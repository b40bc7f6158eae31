"""Drawn examples on disk, in chunks that a process beside the training writes and that are used
again and again.

Each chunk is the same whenever it is drawn.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from numpy.typing import NDArray

    Records = NDArray[Any]

PAUSE = 0.2  # seconds between two looks for a chunk


@dataclass(frozen=True)
class Pool:
    """``chunks`` files of ``size`` records each; ``draw`` gives a chunk by its number."""

    folder: Path
    draw: Callable[[int, int], Records]
    chunks: int
    size: int

    def path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:04}.npy"

    def is_full(self) -> bool:
        return all(self.path(chunk).exists() for chunk in range(self.chunks))

    def fill(self, is_wanted: Callable[[], bool]) -> None:
        """Draw what is missing, while it is wanted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for chunk in range(self.chunks):
            if self.path(chunk).exists():
                continue
            if not is_wanted():
                return
            beside = self.folder / f"{chunk:04}.{os.getpid()}.part"
            with beside.open("wb") as file:
                np.save(file, self.draw(chunk, self.size))
            beside.replace(self.path(chunk))

    def take(self, indices: Sequence[int], keep_waiting: Callable[[], bool]) -> Records:
        """The records of those numbers, in their order, once they are drawn.

        ``keep_waiting``: whether somebody draws still.
        """
        records = list[Any]()
        for index in indices:
            chunk, row = divmod(index, self.size)
            records.append(self._open(chunk, keep_waiting)[row])
        return np.stack(records)

    def _open(self, chunk: int, keep_waiting: Callable[[], bool]) -> Records:
        path = self.path(chunk)
        while not path.exists():
            if not keep_waiting() and not path.exists():
                raise VptError(f"{path} is missing, and nobody draws it", "start the recipe again")
            time.sleep(PAUSE)
        return _map(path)


@functools.lru_cache(maxsize=512)
def _map(path: Path) -> Records:
    return np.load(path, mmap_mode="r")


class Painters:
    """The process that fills pools, one after the other, while the block lasts."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = tuple(pools)
        self._process: BaseProcess | None = None

    def __enter__(self) -> Painters:
        if all(pool.is_full() for pool in self._pools):
            return self
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_fill, args=(self._pools, os.getpid()), daemon=True)
        process.start()
        self._process = process
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join()

    def take(self, pool: Pool, indices: Sequence[int]) -> Records:
        return pool.take(indices, self.are_at_work)

    def are_at_work(self) -> bool:
        return self._process is not None and self._process.is_alive()


def _fill(pools: Sequence[Pool], parent: int) -> None:
    os.nice(5)
    for pool in pools:
        pool.fill(lambda: os.getppid() == parent)
