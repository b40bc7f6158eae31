"""Asks a bundle in every way that an application may, and looks at what grows and what differs.

    PYTHONPATH=tests/typing:tests:demo:. python -m benchmarks.soak BUNDLE --minutes 10

Each round, four threads make requests of all kinds: asked, streamed, driven by a pool of threads,
left in the midst, about encoded pictures that are closed meanwhile, by event loops whose tasks are
cancelled, with regions that are malformed, too many or none, and pipelines that are closed while
they answer. Every answer is held against a fresh pipeline's, what came of a stream that was left
against its beginning. When a round has ended, nothing of it should be left: memory, open files and
threads are counted, and their slopes over the requests are judged. Large blocks go back to the
system, as in vpt-serve: what glibc keeps between blocks that are in use is not what grows here.

Ends with 1 when something grows or differs.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import random
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from evaluate import draw_scenes

from benchmarks import ways
from benchmarks.ways import LONG, Question, Way
from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.server.allocator import return_large_blocks

THREADS = 4
ROUND = 40  # requests
WARM_UP = 0.25  # of the samples, which are not judged
FEWEST = 4  # samples behind it: in fewer a slope says little
# What may grow from the end of the warm-up to the end, by the slope.
MEMORY_GROWTH = 16.0  # MiB, or a twentieth: the key-value cache's pages come as they are first used
COUNT_GROWTH = 1.0

REGION = "<|region_token_start|><|x_1|><|y_2|><|x_3|><|region_token_end|>"
MALFORMED = "<|region_token_start|><|x_1|><|region_token_end|>"
REENCODE = "<|{0}_action_start|><|{0}_action|><|{0}_action_end|>"
OPTIONS: list[dict[str, Any]] = [
    {"assistant_prefix": REENCODE},
    {"assistant_prefix": REGION + REGION},
    {"assistant_prefix": MALFORMED},
    {"assistant_prefix": REGION * 90},
    {"assistant_prefix": f"{REGION}<image>"},
    {"assistant_prefix": REGION[:-10], "max_looks": 3},
    {"temperature": 0.7, "top_k": 5, "seed": 1},
    {"keep_logits": True, "perception": "region"},
    {"max_new_tokens": 1},
    {"max_new_tokens": 0},
]


class Sample(NamedTuple):
    """What the process held behind so many requests; ``memory`` in MiB."""

    requests: int
    memory: float
    files: int
    threads: int


class Soak:
    """Makes requests of ``bundle`` and keeps in ``faults`` what was not a fresh pipeline's."""

    def __init__(self, bundle: Bundle, seed: int, pictures: int = 4) -> None:
        self.bundle = bundle
        self.faults: list[str] = []
        self.samples: list[Sample] = []
        self.requests = 0
        self._random = random.Random(seed)
        self._expected: list[tuple[Question, list[str]]] = []
        kind = bundle.manifest.perception["kind"]
        for question in draw_questions(self._random, kind, pictures):
            with Pipeline(bundle) as pipeline:
                self._expected.append((question, ways.stream(pipeline, question)))

    def run_round(self, pipeline: Pipeline, count: int = ROUND) -> None:
        """Make ``count`` requests on several threads, and count what is left of them."""
        choices = [*ways.WHOLE, *ways.LAST, *ways.FIRST, None]
        with ThreadPoolExecutor(THREADS) as pool:
            jobs = []
            for _ in range(count):
                question, expected = self._random.choice(self._expected)
                way = self._random.choice(choices)
                if way is None:
                    jobs.append(pool.submit(self._close_in_between, question, expected))
                else:
                    jobs.append(pool.submit(self._ask, pipeline, way, question, expected))
            for job in jobs:
                job.result(LONG)
        self.requests += count
        gc.collect()
        self.samples.append(sample(self.requests))

    def _ask(self, pipeline: Pipeline, way: Way, question: Question, expected: list[str]) -> None:
        events = way(pipeline, question)
        if way in ways.LAST:
            expected = expected[-1:]
        elif way in ways.FIRST:
            expected = expected[: len(events)]
        if events != expected:
            self._tell(way.__name__, question, events, expected)

    def _close_in_between(self, question: Question, expected: list[str]) -> None:
        """Another pipeline, while it answers: it is right, or says that it is closed."""
        found: list[str] = []
        pipeline = Pipeline(self.bundle)
        thread = threading.Thread(target=lambda: found.extend(ways.ask(pipeline, question)))
        thread.start()
        time.sleep(0.01 * question.place)
        pipeline.close()
        thread.join(LONG)
        if found != expected[-1:] and "is closed" not in "".join(found):
            self._tell("close in between", question, found, expected)

    def _tell(self, way: str, question: Question, found: list[str], expected: list[str]) -> None:
        asked = f"{question.text} {question.options}"
        self.faults.append(f"{way}, {asked}: found {found}, expected {expected}")


def draw_questions(draw: random.Random, kind: str, pictures: int) -> list[Question]:
    """Of all sorts, about ``pictures`` scenes and about what is not a picture."""
    questions = []
    scenes = draw_scenes(draw.getrandbits(32))
    for picture, samples in islice(scenes, pictures):
        for each in samples:
            questions.append(Question(picture, each.question, {"perception": each.perception}))
        for options in OPTIONS:
            prefix = options.get("assistant_prefix", "").format(kind)
            asked = {**options, "assistant_prefix": prefix}
            questions.append(Question(picture, f"Is there a red sign{'?' * len(questions)}", asked))
    questions.append(Question("missing.png", "What?", {}))
    questions.append(Question(b"not a picture", "What?", {}))
    for question in questions:
        question.options.setdefault("max_new_tokens", 24)
    return questions


def sample(requests: int) -> Sample:
    """What the process holds now: memory of its own, without what the allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text("ascii")
    memory = int(status.partition("RssAnon:")[2].split()[0]) / 1024
    files = len(list(Path("/proc/self/fd").iterdir()))
    return Sample(requests, memory, files, threading.active_count())


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """By the slope, from the end of the warm-up to the end."""
    judged = np.array(samples[int(len(samples) * WARM_UP) :], float)
    if len(judged) < FEWEST:
        return {}
    requests = judged[:, 0]
    slopes = np.polyfit(requests, judged[:, 1:], 1)[0]
    grown = slopes * (requests[-1] - requests[0])
    return dict(zip(Sample._fields[1:], grown.tolist(), strict=True))


def judge(samples: Sequence[Sample]) -> list[str]:
    """What grows."""
    limits = {"memory": MEMORY_GROWTH, "files": COUNT_GROWTH, "threads": COUNT_GROWTH}
    if samples:
        limits["memory"] = max(MEMORY_GROWTH, samples[-1].memory / 20)
    problems = []
    for name, grown in growth(samples).items():
        if grown > limits[name]:
            problems.append(f"{name} grew by {grown:.1f}, {limits[name]:.1f} allowed")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", help="of the demo's checkpoint")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    return_large_blocks()
    bundle = Bundle.open(options.bundle)
    soak = Soak(bundle, options.seed)
    end = time.monotonic() + 60 * options.minutes
    with Pipeline(bundle) as pipeline:
        soak.run_round(pipeline)
        while time.monotonic() < end:
            soak.run_round(pipeline)
    for line in soak.samples[:: max(1, len(soak.samples) // 10)]:
        print(f"{line.requests:6} requests  {line.memory:7.1f} MiB  {line.files} files  "
              f"{line.threads} threads")  # fmt: skip
    for name, grown in growth(soak.samples).items():
        print(f"{name} grew by {grown:.2f} behind the warm-up")
    print(f"{soak.requests} requests, {len(soak.faults)} of them wrong")
    problems = [*judge(soak.samples), *soak.faults[:10]]
    for problem in problems:
        print(f"failed: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
