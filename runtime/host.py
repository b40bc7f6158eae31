"""The machine that this process runs on: its files, its memory, its cores, within the limits of a
container.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


CGROUP = "sys/fs/cgroup"


@dataclass(frozen=True)
class Memory:
    """Bytes; ``available`` is what a new program can have without swapping."""

    total: int
    available: int
    swap: int
    swap_free: int


def text_of(path: str) -> str:
    """A file below ROOT; empty where it cannot be read."""
    try:
        return (ROOT / path).read_text("utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def read_memory() -> Memory:
    """What /proc/meminfo says, within the limits of the container.

    Raises KeyError where the system does not tell.
    """
    lines = re.findall(r"^(\w+):\s+(\d+) kB", text_of("proc/meminfo"), re.MULTILINE)
    sizes = {name: int(kilobytes) << 10 for name, kilobytes in lines}
    total, available = _limited("memory", sizes["MemTotal"], sizes["MemAvailable"], _cached())
    swap, swap_free = _limited("memory.swap", sizes["SwapTotal"], sizes["SwapFree"], 0)
    return Memory(total, available, swap, swap_free)


def _limited(controller: str, total: int, free: int, given_back: int) -> tuple[int, int]:
    """Total and free bytes within the container's limit; ``given_back``: of the bytes that it is
    said to use, those that the kernel takes back when they are needed.
    """
    limit = text_of(f"{CGROUP}/{controller}.max")
    used = text_of(f"{CGROUP}/{controller}.current")
    if not limit.isdigit() or not used.isdigit() or int(limit) >= total:
        return total, free
    left = int(limit) - max(int(used) - given_back, 0)
    return int(limit), max(min(free, left), 0)


def _cached() -> int:
    """Bytes of the container's page cache, which /proc/meminfo counts as available as well."""
    stat = text_of(f"{CGROUP}/memory.stat")
    counts = re.findall(r"^(?:active_file|inactive_file) (\d+)$", stat, re.MULTILINE)
    return sum(int(count) for count in counts)


def read_peak_memory() -> int | None:
    """Bytes of this process that were resident at once, at most; None where the system does not
    tell.
    """
    peak = re.search(r"^VmHWM:\s+(\d+) kB", text_of("proc/self/status"), re.MULTILINE)
    return int(peak[1]) << 10 if peak else None


def usable_cores() -> int:
    """How many of the machine's cores this process may keep busy: by its affinity, and by the
    container's quota.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota, _, period = text_of(f"{CGROUP}/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(int(quota) // int(period), 1))
    return cores
