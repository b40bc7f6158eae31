"""optimum-cli finds the exporter, and it is the exporter that runs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from families import write_checkpoint
from golden import ROOT

from vpt_edge.runtime import Bundle

if TYPE_CHECKING:
    from pathlib import Path


def optimum(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "vpt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_checkpoint_is_exported(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", "qwen2_vl")
    bundle = tmp_path / "bundle"
    done = optimum(str(source), "-o", str(bundle), "--precision", "fp32", "--max-pixels", "50000")
    assert done.returncode == 0, done.stderr
    assert f"next: vpt-run {bundle} PICTURE 'QUESTION'" in done.stdout
    assert Bundle.open(bundle).manifest.image.max_pixels == 50000


def test_what_is_no_checkpoint_is_said_in_one_line(tmp_path: Path) -> None:
    done = optimum("--precision", "fp32", str(tmp_path), "--output", str(tmp_path / "bundle"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/config.json is missing")
