"""Loads a server with many clients, and looks at what grows and what is answered wrong.

    PYTHONPATH=tests/typing:tests:demo:. python -m benchmarks.serve_load BUNDLE --minutes 10

A server runs in a process of its own. First one client asks about pictures that the server has not
seen, in turn with ``Pipeline.ask`` in this process: the difference is what the server costs. Then
come rounds of 32 clients, each at an address of its own: most of them ask, half of those as a
stream; a tenth leave in the midst, and a tenth send rubbish. Every answer, text and looks, is held
against that of ``Pipeline.ask``; who is turned away comes back when it is told to. Behind each
round, when the clients are gone, the server's memory, open files and threads are counted, and their
slopes over the requests are judged as in ``benchmarks.soak``.

Ends with 1 when something grows, is answered wrong, or fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from evaluate import draw_scenes

from benchmarks.serve_cases import (
    MODEL,
    PATH,
    TOKENS,
    Reply,
    collect_rubbish,
    draw_cases,
    encode,
    expect,
    request,
    turn,
)
from benchmarks.serve_clients import LONG, Load, read_completion
from benchmarks.soak import Sample, growth, judge
from vpt_edge.runtime import Pipeline
from vpt_edge.server.allocator import return_large_blocks
from vpt_edge.server.listener import Listener
from vpt_edge.server.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROUND = 10.0  # seconds
PICTURES = 8
CACHE = 8 << 20  # bytes: not all of the pictures, so that some go and come back
PAIRS = 100
PROMPT = 0.3  # of the returns behind a 429 that are answered at least
IDLE = 10.0  # seconds at most until what a round has opened is closed


def serve(bundle: str, connection: Connection) -> None:
    """A server at a free port, whose address goes through ``connection``; with memory as vpt-serve
    has it.
    """
    return_large_blocks()
    settings = Settings(model=MODEL, cache_bytes=CACHE)
    Listener(lambda: Pipeline(bundle), settings, notify=connection.send).run()


@contextmanager
def running(bundle: str) -> Iterator[tuple[str, int]]:
    """The address of a server in a process of its own, and the number of the process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(bundle, theirs))
    process.start()
    try:
        assert ours.poll(LONG), "the server did not start"
        assert process.pid is not None
        yield ours.recv(), process.pid
    finally:
        process.terminate()
        process.join(LONG)


class Pair(NamedTuple):
    """Seconds of ``Pipeline.ask`` and of the same through the server, from which those are taken
    away that the model computed, and both with them.
    """

    direct: float
    served: float
    whole_direct: float
    whole_served: float


def measure_overhead(pipeline: Pipeline, address: str, seed: int, pairs: int) -> list[Pair]:
    """About new pictures, now the one first and now the other."""
    scenes = draw_scenes(seed)
    results = []
    with httpx.Client(base_url=address, timeout=LONG) as client:

        def ask_server(question: str, picture: bytes) -> tuple[Reply, float]:
            body = request([turn(question, picture)], "region")
            reply = client.post(PATH, json=body)
            return read_completion(reply), reply.json()["vpt"]["seconds"]["total"]

        def ask_pipeline(question: str, picture: bytes) -> tuple[Reply, float]:
            options: Any = {"perception": "region", "max_new_tokens": TOKENS}
            answer = pipeline.ask(picture, question, **options)
            return expect(answer), answer.usage.seconds["total"]

        ways = [ask_pipeline, ask_server]
        for number in range(pairs + 1):
            picture, samples = next(scenes)
            data = encode(picture)
            whole = {}
            computed = {}
            replies = set()
            order = ways if number % 2 else ways[::-1]
            for way in order:
                begin = time.perf_counter()
                reply, computed[way] = way(samples[0].question, data)
                whole[way] = time.perf_counter() - begin
                replies.add(reply)
            assert len(replies) == 1, replies
            rest = [whole[way] - computed[way] for way in ways]
            results.append(Pair(*rest, *[whole[way] for way in ways]))
    return results[1:]  # the first warms both up


def sample_process(number: int, requests: int) -> Sample:
    """What the process holds, once it has closed what clients left behind."""
    folder = Path("/proc") / str(number)
    end = time.monotonic() + IDLE
    files = -1
    while time.monotonic() < end:
        before = files
        files = len(list((folder / "fd").iterdir()))
        if files == before:
            break
        time.sleep(0.2)
    status = (folder / "status").read_text("ascii")
    memory = int(status.partition("RssAnon:")[2].split()[0]) / 1024
    threads = int(status.partition("Threads:")[2].split()[0])
    return Sample(requests, memory, files, threads)


def describe_samples(samples: list[Sample]) -> Iterator[str]:
    for line in samples[:: max(1, len(samples) // 10)]:
        yield (
            f"{line.requests:6} requests  {line.memory:7.1f} MiB  {line.files} files  "
            f"{line.threads} threads"
        )
    for name, grown in growth(samples).items():
        yield f"{name} grew by {grown:.2f} behind the warm-up"


def describe_load(load: Load) -> Iterator[str]:
    counts = Counter(load.acts)
    answers = counts["whole"] + counts["streamed"]
    yield (
        f"{answers} answers, {counts['streamed']} of them streamed; {counts['left']} left, "
        f"{counts['rubbish']} sent rubbish; {len(load.faults)} wrong"
    )
    if load.waits:
        share = counts["returned"] / len(load.waits)
        yield (
            f"{len(load.waits)} times 429, to come back after {min(load.waits)} to "
            f"{max(load.waits)} s; {share:.0%} of the returns were answered"
        )
    cuts = quantiles(load.seconds, n=20)
    yield f"an answer under load: p50 {1000 * cuts[9]:.0f} ms, p95 {1000 * cuts[18]:.0f} ms"


def describe_overhead(pairs: list[Pair]) -> str:
    """Medians; the cost of the server with its quartiles."""
    whole_direct = median(pair.whole_direct for pair in pairs)
    whole_served = median(pair.whole_served for pair in pairs)
    low, middle, high = quantiles([pair.served - pair.direct for pair in pairs], n=4)
    return (
        f"alone, {len(pairs)} pairs: Pipeline.ask {1000 * whole_direct:.1f} ms, through the server "
        f"{1000 * whole_served:.1f} ms; beside what the model computes the server costs "
        f"{1000 * middle:.1f} ({1000 * low:.1f} to {1000 * high:.1f}) ms"
    )


def find_problems(load: Load, samples: list[Sample]) -> list[str]:
    """What should not be."""
    problems = [*judge(samples), *load.faults[:10]]
    if load.acts.count("returned") < PROMPT * len(load.waits):
        problems.append("who comes back when it is told to is turned away again")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", help="of the demo's checkpoint")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    count = max(4, int(min(1.0, options.minutes) * PAIRS))
    samples = list[Sample]()
    with running(options.bundle) as (address, number), Pipeline(options.bundle) as pipeline:
        pairs = measure_overhead(pipeline, address, options.seed, count)
        cases = draw_cases(pipeline, Random(options.seed), PICTURES)
        load = Load(address, cases, collect_rubbish(cases[0]))
        length = min(ROUND, 60 * options.minutes / 3)
        load.run_round(length, seed=0)  # fills pools of threads and the cache of pictures
        end = time.monotonic() + 60 * options.minutes
        while not samples or time.monotonic() < end:
            load.run_round(length, seed=len(samples) + 1)
            samples.append(sample_process(number, len(load.acts)))
    for line in (*describe_samples(samples), *describe_load(load), describe_overhead(pairs)):
        print(line)
    problems = find_problems(load, samples)
    for problem in problems:
        print(f"failed: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
