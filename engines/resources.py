"""What a build needs of memory and disk, held against what there is, before it starts."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vpt_edge.runtime import host
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MIB = 1 << 20

# Bytes that building takes beside the graph's, and how often it takes the graph's.
COSTS = {"tensorrt-rtx": (384 * MIB, 3.5), "tensorrt": (1024 * MIB, 4.0)}
# Times the graph in a card's own memory: its weights, and those of the tactic that is timed.
GPU_SHARE = 2.0
# A plan holds the weights, and code for each profile.
PLAN_SHARE = 1.25
PLAN_FIXED = 16 * MIB


@dataclass(frozen=True)
class Need:
    """Bytes that the build of ``graph`` takes, as estimated from ``size``, the bytes of the graph's
    files.
    """

    graph: str
    size: int
    memory: int
    gpu: int
    disk: int


def estimate(graph: str, size: int, library: str) -> Need:
    """What building ``graph`` of ``size`` bytes takes with "tensorrt" or "tensorrt-rtx"."""
    fixed, times = COSTS[library]
    return Need(
        graph=graph,
        size=size,
        memory=fixed + int(times * size),
        gpu=int(GPU_SHARE * size),
        disk=PLAN_FIXED + int(PLAN_SHARE * size),
    )


def find_memory() -> host.Memory | None:
    """The memory of this machine, None where the system does not tell."""
    try:
        return host.read_memory()
    except KeyError:
        return None


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does
    not say.
    """
    count = re.search(r"^oom_kill (\d+)$", host.text_of("proc/vmstat"), re.MULTILINE)
    return int(count[1]) if count else 0


def peak_memory(process: int) -> int:
    """The most bytes that a running process held so far; 0 where the system does not say."""
    status = host.text_of(f"proc/{process}/status")
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(peak[1]) << 10 if peak else 0


def advice(missing: int) -> str:
    """How to come by ``missing`` bytes."""
    size = -(-missing // (1 << 30))
    return (
        f"make swap (sudo fallocate -l {size}G /swapfile && sudo chmod 600 /swapfile && sudo "
        "mkswap /swapfile && sudo swapon /swapfile), end the desktop (sudo systemctl isolate "
        "multi-user.target), or export a smaller precision (vpt-export CHECKPOINT -o BUNDLE "
        "--target tensorrt --precision int8)"
    )


def check(needs: Sequence[Need], folder: Path, gpu_free: int | None) -> None:
    """Raises VptError if the largest of the builds does not fit into memory, or all plans do not
    fit on the disk.
    """
    largest = max(needs, key=lambda need: need.memory)
    _check_memory(largest)
    if gpu_free is not None and gpu_free < largest.gpu:
        raise VptError(
            f"too little memory on the GPU: {_about(largest)} {largest.gpu // MIB} MiB, found "
            f"{gpu_free // MIB} MiB free",
            "close other programs on the GPU (nvidia-smi lists them)",
        )
    disk = sum(need.disk for need in needs)
    free = shutil.disk_usage(folder).free
    if free < disk:
        raise VptError(
            f"too little room on the disk of {folder}: the plans take about {disk // MIB} MiB, "
            f"found {free // MIB} MiB free",
            "remove what is not needed, such as plans of other devices",
        )


def _check_memory(need: Need) -> None:
    memory = find_memory()
    if memory is None:
        return
    free = memory.available + memory.swap_free
    if free < need.memory:
        raise VptError(
            f"too little memory: {_about(need)} {need.memory // MIB} MiB, found "
            f"{memory.available // MIB} MiB available and {memory.swap_free // MIB} MiB of free "
            "swap",
            advice(need.memory - free),
        )


def _about(need: Need) -> str:
    return f"building {need.graph} ({need.size // MIB} MiB) takes about"
