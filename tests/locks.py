"""A place that another process writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from vpt_edge.runtime.lock import lock_place
with lock_place(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(place: Path, writer: str) -> Iterator[int]:
    """Lock ``place`` in a process of its own; the value is its number. It is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place), writer],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()
