"""The machine as vpt-doctor finds it: board, power mode, processor, memory."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from vpt_edge.runtime import host
from vpt_edge.runtime.host import read_memory, text_of, usable_cores

GIB = 1 << 30
OLDEST_L4T = 36  # JetPack 6, whose TensorRT is 10.3
SMALL = 12 * GIB  # below it a build needs swap
ADD_SWAP = (
    "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
    "sudo swapon /swapfile"
)
SLOWER = "(int8 products are slower)"
# For products of int8, by their names in /proc/cpuinfo; of those that are there the first decides.
INSTRUCTIONS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512bw": f"AVX512 without VNNI {SLOWER}",
    "avx2": f"AVX2 without VNNI {SLOWER}",
    "sse2": f"no AVX2 {SLOWER}",
    "i8mm": "dot product, i8mm",
    "asimddp": "dot product",
    "asimd": f"no dot product {SLOWER}",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    ``fix`` is the command that helps, or nothing; what is not needed here is ``ok``.
    """

    check: str
    state: Literal["ok", "warning", "missing"]
    found: str
    fix: str = ""


def is_jetson() -> bool:
    return bool(text_of("etc/nv_tegra_release")) or "nvidia,tegra" in text_of(
        "proc/device-tree/compatible"
    )


def has_nvidia_gpu() -> bool:
    """Whether the hardware is there, with or without a driver."""
    if is_jetson() or text_of("proc/driver/nvidia/version"):
        return True
    cards = [path.parent for path in (host.ROOT / "sys/bus/pci/devices").glob("*/vendor")]
    vendor_class = [(text_of(f"{card}/vendor"), text_of(f"{card}/class")) for card in cards]
    return any(vendor == "0x10de" and kind.startswith("0x03") for vendor, kind in vendor_class)


def check_jetpack() -> Finding:
    check = "JetPack"
    if not is_jetson():
        return Finding(check, "ok", "none: this is not a Jetson")
    release = text_of("etc/nv_tegra_release")
    match = re.search(r"R(\d+) .*?REVISION: ([\d.]+)", release)
    if not match:
        found = f"L4T unknown: {host.ROOT / 'etc/nv_tegra_release'} says {release[:60]!r}"
        fix = "docker run -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro ..."
        return Finding(check, "warning", found, fix)
    found = f"L4T {match[1]}.{match[2]}"
    if int(match[1]) < OLDEST_L4T:
        fix = "flash JetPack 6.1 or later: https://developer.nvidia.com/embedded/jetpack"
        return Finding(check, "warning", f"{found} is too old: its TensorRT is below 10.3", fix)
    version = _output("dpkg-query", "-W", "-f", "${Version}", "nvidia-jetpack")
    if not version:
        found += ", package nvidia-jetpack is not installed"
        return Finding(check, "warning", found, "sudo apt install nvidia-jetpack")
    return Finding(check, "ok", f"{version}, {found}")


def check_board() -> Finding:
    model = text_of("proc/device-tree/model")
    if not model:
        vendor = text_of("sys/class/dmi/id/sys_vendor")
        product = text_of("sys/class/dmi/id/product_name")
        model = f"{vendor} {product}".strip()
    return Finding("board", "ok", f"{model or 'without a name'} ({platform.machine()})")


def check_power_mode() -> Finding:
    """The mode's name: its number means another mode on another board."""
    check = "power mode"
    text = _output("nvpmodel", "-q")
    match = re.search(r"NV Power Mode: *(\S+)", text)
    if match:
        return Finding(check, "ok", match[1])
    if shutil.which("nvpmodel") is None:
        found = "unknown: there is no nvpmodel here"
        return Finding(check, "warning", found, "run vpt-doctor on the host")
    return Finding(check, "warning", "unknown: nvpmodel -q names none", "sudo vpt-doctor")


def check_cpu() -> Finding:
    """With the instructions that int8 depends on: two processors of one name and size can differ
    several times.
    """
    cpuinfo = text_of("proc/cpuinfo")
    model = re.search(r"^model name\s*: *(.+)$", cpuinfo, re.MULTILINE)
    name = model[1] if model else platform.machine()
    online = len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))
    last = re.search(r"(\d+)$", text_of("sys/devices/system/cpu/present"))
    present = int(last[1]) + 1 if last else online
    usable = usable_cores()
    found = f"{name}, {online or os.cpu_count()} cores"
    if present > online > 0:
        found += f" of {present}, the others are switched off"
    found += _instructions(cpuinfo)
    if usable < online:
        found += f"; this process may use {usable}"
    return Finding("CPU", "ok", found)


def _instructions(cpuinfo: str) -> str:
    """What decides over the speed of int8; empty where the system does not tell it."""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    if not flags:
        return ""
    names = flags[1].split()
    return next((f", {text}" for name, text in INSTRUCTIONS.items() if name in names), "")


def check_memory() -> Finding:
    check = "memory"
    now = read_memory()
    found = f"{now.available / GIB:.1f} of {now.total / GIB:.1f} GiB available"
    if now.swap:
        found += f", {now.swap_free / GIB:.1f} of {now.swap / GIB:.1f} GiB swap free"
    else:
        found += ", no swap"
    if is_jetson() and now.total < SMALL and not now.swap:
        found += ": a build takes 3 to 4 times a graph's weights"
        return Finding(check, "warning", found, ADD_SWAP)
    return Finding(check, "ok", found)


def _output(*command: str) -> str:
    """What a command of the system prints; empty where it fails or is not there."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=20, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
