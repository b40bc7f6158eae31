"""What a build needs of memory and disk, held against what there is, before it starts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMINFO = Path("/proc/meminfo")
VMSTAT = Path("/proc/vmstat")
MIB = 1 << 20

# Bytes that building takes beside the graph's, and how often it takes the graph's.
COSTS = {"tensorrt-rtx": (384 * MIB, 3.5), "tensorrt": (1024 * MIB, 4.0)}
GPU_SHARE = 2.0  # times the graph in a card's own memory: its weights, and those of the tactic that is timed
PLAN_SHARE, PLAN_BASE = 1.25, 16 * MIB  # a plan holds the weights, and code for each profile


@dataclass(frozen=True)
class Need:
    """Bytes that the build of ``graph`` takes, as estimated from ``size``, the bytes of the graph's
    files."""

    graph: str
    size: int
    memory: int
    gpu: int
    disk: int


def need(graph: str, size: int, library: str) -> Need:
    fixed, times = COSTS[library]
    return Need(
        graph,
        size,
        fixed + int(times * size),
        int(GPU_SHARE * size),
        PLAN_BASE + int(PLAN_SHARE * size),
    )


def free_memory() -> tuple[int, int] | None:
    """Available memory and free swap in bytes; None where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) << 10, int(lines["SwapFree"].split()[0]) << 10
    except (OSError, KeyError):
        return None


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does
    not say."""
    try:
        counts = dict(line.split() for line in VMSTAT.read_text().splitlines())
    except OSError:
        return 0
    return int(counts.get("oom_kill", 0))


def peak_memory(process: int) -> int:
    """The most bytes that a running process held so far; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def advice(missing: int) -> str:
    """How to come by ``missing`` bytes."""
    size = -(-missing // (1 << 30))
    return (
        f"make swap (sudo fallocate -l {size}G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
        "sudo swapon /swapfile), end the desktop (sudo systemctl isolate multi-user.target), or export a smaller "
        "precision (vpt-export CHECKPOINT -o BUNDLE --target tensorrt --precision int8)"
    )


def check(needs: Sequence[Need], folder: Path, gpu_free: int | None) -> None:
    """Raises VptError if the largest of the builds does not fit into memory, or all plans do not
    fit on the disk."""
    most = max(needs, key=lambda need: need.memory)
    about = f"building {most.graph} ({most.size // MIB} MiB) takes about"
    free = free_memory()
    if free is not None and sum(free) < most.memory:
        available, swap = free
        raise VptError(
            f"too little memory: {about} {most.memory // MIB} MiB, found {available // MIB} MiB available and "
            f"{swap // MIB} MiB of free swap; {advice(most.memory - sum(free))}"
        )
    if gpu_free is not None and gpu_free < most.gpu:
        raise VptError(
            f"too little memory on the GPU: {about} {most.gpu // MIB} MiB, found {gpu_free // MIB} MiB free; close "
            "other programs on the GPU (nvidia-smi lists them)"
        )
    disk, there = sum(need.disk for need in needs), shutil.disk_usage(folder).free
    if there < disk:
        raise VptError(
            f"too little room on the disk of {folder}: the plans take about {disk // MIB} MiB, found {there // MIB} "
            "MiB free; remove what is not needed, such as plans of other devices"
        )
