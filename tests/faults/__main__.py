"""``make faults``: build the shim, and sweep with it loaded."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from faults.injector import compile_shim, run_under

with tempfile.TemporaryDirectory() as folder:
    sys.exit(run_under(compile_shim(Path(folder)), "faults.sweep", *sys.argv[1:]))
