"""What a build needs, held against memory, GPU and disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from vpt_edge.engines import resources
from vpt_edge.runtime import host
from vpt_edge.runtime.errors import VptError

IN_KIB = 1 << 20  # of a GiB
NEED = resources.estimate("decoder", 1 << 30, "tensorrt")  # 5 GiB of memory


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the memory of the machine in GiB, and the container's files by their names."""
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "sys/fs/cgroup").mkdir(parents=True)
    monkeypatch.setattr(host, "ROOT", root)

    def write(free: int, swap: int = 0, **container: str) -> None:
        sizes = {"MemTotal": 64, "MemAvailable": free, "SwapTotal": swap, "SwapFree": swap}
        lines = [f"{name}: {size * IN_KIB} kB\n" for name, size in sizes.items()]
        (root / "proc/meminfo").write_text("".join(lines))
        for name, content in container.items():
            (root / "sys/fs/cgroup" / name.replace("_", ".")).write_text(f"{content}\n")

    return write


def test_swap_counts_as_memory(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(free=4)
    with pytest.raises(VptError, match="found 4096 MiB available and 0 MiB of free swap") as caught:
        resources.check([NEED], tmp_path, None)
    assert "fallocate -l 1G /swapfile" in caught.value.fix
    machine(free=4, swap=1)
    resources.check([NEED], tmp_path, None)


def test_a_containers_limit_counts(tmp_path: Path, machine: Callable[..., None]) -> None:
    """Of memory and of swap; the page cache that it is charged for is given back."""
    machine(free=60, swap=8, memory_max=str(8 << 30), memory_current=str(6 << 30))
    resources.check([NEED], tmp_path, None)
    machine(free=60, swap=8, memory_swap_max="0", memory_swap_current="0")
    with pytest.raises(VptError, match="found 2048 MiB available and 0 MiB of free swap"):
        resources.check([NEED], tmp_path, None)
    cached = f"anon 0\nfile {5 << 30}\ninactive_file {2 << 30}\nactive_file {2 << 30}"
    machine(free=60, swap=8, memory_stat=cached)
    resources.check([NEED], tmp_path, None)


def test_without_a_limit_the_machine_counts(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(free=60, memory_max="max", memory_current=str(6 << 30))
    resources.check([NEED], tmp_path, None)


def test_a_system_that_does_not_tell_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "ROOT", tmp_path)
    resources.check([NEED], tmp_path, None)
    assert (resources.oom_kills(), resources.peak_memory(1)) == (0, 0)


def test_gpu_and_disk_count(tmp_path: Path, machine: Callable[..., None]) -> None:
    assert NEED.memory == 5 << 30
    machine(free=60)
    resources.check([NEED], tmp_path, 3 << 30)
    with pytest.raises(
        VptError, match=r"too little memory on the GPU: .* 2048 MiB, found 1024 MiB free"
    ):
        resources.check([NEED], tmp_path, 1 << 30)
    with pytest.raises(VptError, match="too little room on the disk"):
        resources.check([dataclasses.replace(NEED, disk=1 << 60)], tmp_path, None)
