"""Asks a bundle in every way that an application may, and looks at what grows and what differs.

    python -m benchmarks.soak BUNDLE --minutes 10

Each round, four threads make requests of all kinds: asked, streamed, driven by a pool of threads,
left in the midst, about encoded pictures that are closed meanwhile, by event loops whose tasks are
cancelled, with regions that are malformed, too many or none, and pipelines that are closed while
they answer. Every answer is held against a fresh pipeline's, what came of a stream that was left
against its beginning. When a round has ended, nothing of it should be left: memory, open files and
threads are counted, and their slopes over the requests are judged.

Ends with 1 when something grows or differs.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scenes

from vpt_edge.runtime import Bundle, Finished, Pipeline, Text, VptError

if TYPE_CHECKING:
    from vpt_edge.runtime import Answer
    from vpt_edge.runtime.pipeline import EncodedPicture
    from vpt_edge.runtime.queue import EventStream
    from vpt_edge.runtime.result import Event

THREADS = 4
ROUND = 40  # requests
LONG = 120  # seconds, after which a request counts as hanging
WARM_UP = 0.25  # of the samples, which are not judged
# What may grow from the end of the warm-up to the end, by the slope.
MEMORY_GROWTH = 16.0  # MiB, or a twentieth: allocators keep what they like
COUNT_GROWTH = 1.0

REGION = "<|region_token_start|><|x_1|><|y_2|><|x_3|><|region_token_end|>"
MALFORMED = "<|region_token_start|><|x_1|><|region_token_end|>"
ACTION = "<|{kind}_action_start|><|{kind}_action|><|{kind}_action_end|>"
FIXED: list[dict[str, Any]] = [
    {"assistant_prefix": f"{REGION}{REGION}"},
    {"assistant_prefix": MALFORMED},
    {"assistant_prefix": REGION * 90},
    {"assistant_prefix": f"{REGION}<image>"},
    {"assistant_prefix": REGION[:-10], "max_looks": 3},
    {"temperature": 0.7, "top_k": 5, "seed": 1},
    {"keep_logits": True, "perception": "region"},
    {"max_new_tokens": 1},
    {"max_new_tokens": 0},
]


class Question(NamedTuple):
    """``picture``: its number, or what is not a picture."""

    picture: Any
    text: str
    options: dict[str, Any]


class Outcome(NamedTuple):
    """What a request gave: ``events`` in words, the last of which is the answer or an error."""

    events: tuple[str, ...]


class Sample(NamedTuple):
    requests: int
    memory: float  # MiB
    files: int
    threads: int


def describe(event: Event) -> str:
    if isinstance(event, Text):
        return f"text {event.piece}"
    if isinstance(event, Finished):
        return describe_answer(event.answer)
    return event.describe()


def describe_answer(answer: Answer) -> str:
    ids = [turn.generated_ids for turn in answer.turns]
    return f"answer {answer.raw!r}, {answer.finish_reason}, of {ids}"


def describe_error(error: VptError) -> str:
    return f"{type(error).__name__}: {error}"


class Soak:
    """Makes requests of ``bundle`` and keeps in ``faults`` what was not a fresh pipeline's."""

    def __init__(self, bundle: Bundle, kind: str, seed: int, pictures: int = 4) -> None:
        self.faults: list[str] = []
        self.samples: list[Sample] = []
        self.requests = 0
        self._random = random.Random(seed)
        self.bundle = bundle
        self._pictures = []
        self._questions: list[Question] = []
        for number in range(pictures):
            picture, samples = scenes.scene(self._random)
            self._pictures.append(picture)
            for sample in samples:
                options = {"perception": sample.perception}
                self._questions.append(Question(number, sample.question, options))
            for options in [*FIXED, {"assistant_prefix": ACTION.format(kind=kind)}]:
                self._questions.append(Question(number, "Is there a star?", options))
        self._questions.append(Question("missing.png", "What?", {}))
        self._questions.append(Question(b"not a picture", "What?", {}))
        self._expected = {}
        for index, question in enumerate(self._questions):
            question.options.setdefault("max_new_tokens", 24)
            with Pipeline(bundle) as pipeline:
                self._expected[index] = self._stream(pipeline, question)
        self._ways: list[Callable[[Pipeline, Question], Outcome | None]] = [
            self._ask,
            self._stream,
            self._drive_by_a_pool,
            self._leave,
            self._close_its_picture,
            self._forget_before,
            self._ask_in_a_loop,
            self._cancel,
            self._close_its_pipeline,
        ]

    def run_round(self, pipeline: Pipeline, count: int = ROUND) -> None:
        """Make ``count`` requests on several threads, and count what is left of them."""
        with ThreadPoolExecutor(THREADS) as pool:
            jobs = []
            for _ in range(count):
                index = self._random.randrange(len(self._questions))
                way = self._random.choice(self._ways)
                jobs.append(pool.submit(self._request, pipeline, index, way))
            for job in jobs:
                job.result(LONG)
        self.requests += count
        gc.collect()
        self.samples.append(sample(self.requests))

    def _request(
        self,
        pipeline: Pipeline,
        index: int,
        way: Callable[[Pipeline, Question], Outcome | None],
    ) -> None:
        question = self._questions[index]
        expected = self._expected[index].events
        outcome = way(pipeline, question)
        if outcome is None:
            return
        events = outcome.events
        if way == self._ask or way == self._ask_in_a_loop:
            expected = expected[-1:]
        elif way == self._leave or way == self._cancel:
            expected = expected[: len(events)]
        if events != expected:
            text = f"{way.__name__.strip('_')} {question}: found {events}, expected {expected}"
            self.faults.append(text)

    def _picture(self, question: Question) -> Any:
        if isinstance(question.picture, int):
            return self._pictures[question.picture]
        return question.picture

    def _begin(self, pipeline: Pipeline, question: Question) -> EventStream:
        return pipeline.stream(self._picture(question), question.text, **question.options)

    def _ask(self, pipeline: Pipeline, question: Question) -> Outcome:
        try:
            answer = pipeline.ask(self._picture(question), question.text, **question.options)
        except VptError as error:
            return Outcome((describe_error(error),))
        return Outcome((describe_answer(answer),))

    def _stream(self, pipeline: Pipeline, question: Question) -> Outcome:
        events = []
        try:
            for event in self._begin(pipeline, question):
                events.append(describe(event))
        except VptError as error:
            events.append(describe_error(error))
        return Outcome(tuple(events))

    def _drive_by_a_pool(self, pipeline: Pipeline, question: Question) -> Outcome:
        """Each event on another thread."""
        events = []
        try:
            stream = self._begin(pipeline, question)
            with ThreadPoolExecutor(2) as pool:
                while (event := pool.submit(next, stream, None).result(LONG)) is not None:
                    events.append(describe(event))
        except VptError as error:
            events.append(describe_error(error))
        return Outcome(tuple(events))

    def _leave(self, pipeline: Pipeline, question: Question) -> Outcome:
        """A stream, after some of its events; half of them are closed, the others let go."""
        events = []
        try:
            stream = self._begin(pipeline, question)
            for event in stream:
                events.append(describe(event))
                if len(events) > len(question.text) % 5:
                    break
            if len(question.text) % 2:
                stream.close()
        except VptError as error:
            events.append(describe_error(error))
        return Outcome(tuple(events))

    def _close_its_picture(self, pipeline: Pipeline, question: Question) -> Outcome:
        """While it is asked about."""
        events = []
        try:
            encoded: EncodedPicture = pipeline.encode(self._picture(question))
            with encoded:
                stream = encoded.stream(question.text, **question.options)
                events.append(describe(next(stream)))
            events.extend(map(describe, stream))
        except VptError as error:
            events.append(describe_error(error))
        return Outcome(tuple(events))

    def _forget_before(self, pipeline: Pipeline, question: Question) -> Outcome:
        pipeline.forget()
        return self._stream(pipeline, question)

    def _ask_in_a_loop(self, pipeline: Pipeline, question: Question) -> Outcome:
        picture = self._picture(question)
        try:
            answer = asyncio.run(pipeline.aask(picture, question.text, **question.options))
        except VptError as error:
            return Outcome((describe_error(error),))
        return Outcome((describe_answer(answer),))

    def _cancel(self, pipeline: Pipeline, question: Question) -> Outcome:
        """A task, wherever it is."""
        events = []

        async def read() -> None:
            stream = pipeline.astream(self._picture(question), question.text, **question.options)
            async with aclosing(stream):
                async for event in stream:
                    events.append(describe(event))

        async def main() -> None:
            task = asyncio.create_task(read())
            await asyncio.sleep(0.01 * (len(question.text) % 7))
            task.cancel()
            with suppress(asyncio.CancelledError, VptError):
                await task

        asyncio.run(main())
        return Outcome(tuple(events))

    def _close_its_pipeline(self, pipeline: Pipeline, question: Question) -> None:
        """Another one of the same bundle, while it answers: right, or it says that it is closed."""
        other = Pipeline(self.bundle)
        found: list[Outcome] = []
        thread = threading.Thread(target=lambda: found.append(self._ask(other, question)))
        thread.start()
        time.sleep(0.01 * (len(question.text) % 7))
        other.close()
        thread.join(LONG)
        right = self._expected[self._questions.index(question)].events[-1:]
        if not found or (found[0].events != right and "is closed" not in found[0].events[0]):
            self.faults.append(f"close its pipeline {question}: found {found}, expected {right}")


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
    if len(judged) < 3:
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
    bundle = Bundle.open(options.bundle)
    soak = Soak(bundle, bundle.manifest.perception["kind"], options.seed)
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
