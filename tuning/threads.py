"""How many cores the process may keep busy, as ``taskset`` says it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

HAS_AFFINITY = hasattr(os, "sched_setaffinity")  # Linux


@contextmanager
def limit_threads(count: int | None) -> Iterator[None]:
    """The first ``count`` of the cores for the sessions that the block opens; None: all of them.

    A session has a thread for each core that the thread may use that opens it.
    """
    if count is None:
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def name_cores(count: int) -> str:
    """The first ``count`` of the cores, as ``taskset -c`` takes them."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))[:count]))
