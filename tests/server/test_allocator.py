from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Bodies that come and go, and between them what stays.
CODE = """
from pathlib import Path
from vpt_edge.server.allocator import return_large_blocks

def resident():
    (line,) = [line for line in Path("/proc/self/status").open() if line.startswith("VmRSS")]
    return int(line.split()[1])

if {is_set}:
    return_large_blocks()
before = resident()
bodies = [b"x" * (20 << 20)]
bodies.clear()
kept = []
for _ in range(10):
    bodies.append(b"x" * (19 << 20))
    kept.append(b"x" * (200 << 10))
bodies.clear()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_is_freed_of_large_bodies_goes_back() -> None:
    code = [CODE.format(is_set=is_set) for is_set in (True, False)]
    runs = [subprocess.check_output([sys.executable, "-c", each], text=True) for each in code]
    given_back, kept = map(int, runs)
    assert given_back < 20 << 10  # KiB
    assert kept > 100 << 10
