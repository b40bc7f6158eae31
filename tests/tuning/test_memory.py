"""Peak memory and threads, in processes and on cores of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from golden import TAGS, Exporter
from PIL import Image

from vpt_edge.calibration.sample import Sample
from vpt_edge.runtime import VptError, host
from vpt_edge.tuning.candidate import Candidate
from vpt_edge.tuning.memory import measure_memory
from vpt_edge.tuning.threads import limit_threads, name_cores

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="affinity and /proc are Linux's")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    Image.new("RGB", (224, 224), "red").save(tmp_path / "a.png")
    return Sample(tmp_path / "a.png", "Is there a star?")


@on_linux
def test_the_peak_is_that_of_a_process_of_its_own(exported: Exporter, sample: Sample) -> None:
    path = exported(TAGS).path
    peak = measure_memory(path, Candidate(threads=1), [sample], "cpu", 4)
    assert peak is not None
    assert 16 << 20 < peak < 4 << 30


def test_a_process_that_fails_says_why(tmp_path: Path, sample: Sample) -> None:
    with pytest.raises(VptError, match=r"the memory of .*nothing failed: .*is not a bundle"):
        measure_memory(tmp_path / "nothing", Candidate(), [sample], "cpu", 4)


@on_linux
def test_threads_are_cores_until_the_block_ends() -> None:
    before = os.sched_getaffinity(0)
    with limit_threads(1):
        assert host.usable_cores() == 1
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
    with limit_threads(None):
        assert os.sched_getaffinity(0) == before
    assert name_cores(1) == str(min(before))
