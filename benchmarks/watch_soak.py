"""Watches moving scenes for a long time, and looks at what grows and what is answered wrong.

    PYTHONPATH=tests/typing:tests:demo:. python -m benchmarks.watch_soak BUNDLE --minutes 30 \\
        --out build/watch-soak

One question, whose right answer every frame knows, is asked once a second with a look, while every
frame is written into a video and every answer into lines of JSON. The share of right answers is
held against that of the same pictures, asked about one by one. Memory, open files and threads are
counted every so many answers and judged by their slopes, as in ``benchmarks.soak``.

Ends with 1 when something grows, or when moving pictures are answered worse than still ones.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.soak import Sample, growth, judge, sample
from vpt_edge import live, runtime
from vpt_edge.live.signs.moving import MovingSigns
from vpt_edge.live.sinks.jsonl import JsonLines
from vpt_edge.live.sinks.outputs import Outputs
from vpt_edge.live.sinks.video import Video
from vpt_edge.live.tee import Tee

if TYPE_CHECKING:
    from vpt_edge.live.sinks.sink import Sink

SEED = 77
HOLD = 3.0  # seconds of a scene
TAG = "red"
SOURCE = f"scenes://signs?seed={SEED}&hold={HOLD}&rate=25&tag={TAG}"
QUESTION = f"What does the {TAG} sign say?"
EVERY = 1.0  # seconds
STEP = 15  # answers from one count of memory to the next
MARGIN = 0.02  # by which the share of right answers may be lower than of still pictures


class Watched(NamedTuple):
    """What was held behind so many answers, the seconds at which was asked, and how many answers
    were right.
    """

    samples: list[Sample]
    positions: list[float]
    right: int


def watch(pipeline: runtime.Pipeline, folder: Path, minutes: float) -> Watched:
    end = time.monotonic() + 60 * minutes
    right = 0
    positions = list[float]()
    samples = list[Sample]()
    with live.open(SOURCE) as source:
        video = Video(folder / "watch.mp4", source.name)
        lines = JsonLines(folder / "watch.jsonl")
        sinks: list[tuple[str, Sink]] = [("video", video), ("jsonl", lines)]
        with Outputs(sinks) as outputs:
            watched = Tee(source, outputs.put)
            answers = live.watch(pipeline, watched, QUESTION, every=EVERY, perception="region")
            for seen in answers:
                outputs.put(seen)
                positions.append(seen.frame.position)
                right += int(seen.answer.text == seen.frame.truth[QUESTION])
                if len(positions) % STEP == 0:
                    gc.collect()
                    samples.append(sample(len(positions)))
                if time.monotonic() > end:
                    break
        print(answers.counts[0])
        print(f"lost on the way to the outputs: {outputs.losses}")
    return Watched(samples, positions, right)


def ask_still(pipeline: runtime.Pipeline, positions: Sequence[float]) -> int:
    """How many answers are right about the pictures of those seconds."""
    scenes = MovingSigns(SEED, HOLD, TAG)
    right = 0
    for position in positions:
        answer = pipeline.ask(scenes.pixels(position), QUESTION, perception="region")
        right += int(answer.text == scenes.truth(position)[QUESTION])
    return right


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", help="of the demo's checkpoint")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "watch.jsonl").unlink(missing_ok=True)
    with runtime.Pipeline(options.bundle) as pipeline:
        samples, positions, right = watch(pipeline, options.out, options.minutes)
        still = ask_still(pipeline, positions) / len(positions)
    moving = right / len(positions)
    for line in samples[:: max(1, len(samples) // 10)]:
        print(f"{line.requests:6} answers  {line.memory:7.1f} MiB  {line.files} files  "
              f"{line.threads} threads")  # fmt: skip
    for name, grown in growth(samples).items():
        print(f"{name} grew by {grown:.2f} behind the warm-up")
    lines = (options.out / "watch.jsonl").read_text("utf-8").splitlines()
    print(f"{len([json.loads(line) for line in lines])} lines of JSON")
    print(f"right: {moving:.1%} of moving pictures, {still:.1%} of still ones")
    problems = judge(samples)
    if moving < still - MARGIN:
        problems.append("moving pictures are answered worse than still ones")
    for problem in problems:
        print(f"failed: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
