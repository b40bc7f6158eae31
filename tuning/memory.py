"""The peak memory of a candidate: in a process of its own, where nothing else was computed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime import host
from vpt_edge.runtime.child import child_command, child_environment
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vpt_edge.calibration.sample import Sample
    from vpt_edge.tuning.candidate import Candidate

ASKED = 8  # samples, those with the largest pictures
WORK = "from vpt_edge.tuning.memory import work; work()"


def measure_memory(
    path: Path, candidate: Candidate, samples: Sequence[Sample], device: str, max_new_tokens: int
) -> int | None:
    """The most bytes that are resident at once while ``samples`` are asked; None where the system
    does not tell. Raises VptError where the process fails.
    """
    questions = []
    for sample in samples:
        pictures = [str(picture) for picture in (sample.image, *sample.others)]
        questions.append([pictures, sample.question, sample.perception, sample.box])
    task = {
        "bundle": str(path),
        "device": device,
        "threads": candidate.threads,
        "options": {**candidate.setting.options(), "max_new_tokens": max_new_tokens},
        "questions": questions,
    }
    process = subprocess.run(
        child_command(WORK),
        env=child_environment(),
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        reason = process.stderr.strip().rpartition("\n")[2] or f"code {process.returncode}"
        raise VptError(f"the process that measures the memory of {path} failed: {reason}")
    peak: int | None = json.loads(process.stdout.splitlines()[-1])["peak"]
    return peak


def work() -> None:
    """Do the task of the one line on standard input; the peak goes to standard output."""
    import contextlib
    from pathlib import Path

    from vpt_edge.calibration.evaluation import ask
    from vpt_edge.calibration.sample import Sample
    from vpt_edge.runtime.errors import ImageError, PromptError
    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.sessions.ort import silence_log
    from vpt_edge.tuning.threads import limit_threads
    from vpt_edge.tuning.untuned import open_untuned

    silence_log()
    task: dict[str, Any] = json.load(sys.stdin)
    with limit_threads(task["threads"]):
        bundle = open_untuned(task["bundle"])
        with Pipeline(bundle, task["device"]) as pipeline:
            for pictures, question, perception, box in task["questions"]:
                first, *others = map(Path, pictures)
                area = None if box is None else tuple(box)
                sample = Sample(first, question, None, perception, area, tuple(others))
                with contextlib.suppress(ImageError, PromptError):  # a few may be so
                    ask(pipeline, sample, **task["options"])
    print(json.dumps({"peak": host.read_peak_memory()}))
