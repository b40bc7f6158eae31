"""The machine that this process runs on: its files, its memory, its cores, within the limits of a
container."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


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
    """What /proc/meminfo says, within the limit of the container."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB", text_of("proc/meminfo"), re.MULTILINE)
    sizes = {name: int(kilobytes) << 10 for name, kilobytes in lines}
    total, available = sizes["MemTotal"], sizes["MemAvailable"]
    limit, used = text_of("sys/fs/cgroup/memory.max"), text_of("sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit() and int(limit) < total:
        total, available = int(limit), min(available, int(limit) - int(used))
    return Memory(total, available, sizes["SwapTotal"], sizes["SwapFree"])


def usable_cores() -> int:
    """How many of the machine's cores this process may keep busy: by its affinity, and by the
    container's quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota, _, period = text_of("sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(int(quota) // int(period), 1))
    return cores
