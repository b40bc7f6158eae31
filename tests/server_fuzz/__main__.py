"""make fuzz-server: many requests of all kinds to a bundle that is served by another process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.serve_load import describe_samples, running, sample_process
from benchmarks.soak import Sample, judge
from server_fuzz.fuzzer import fuzz

STEP = 20  # samples of the server's process


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    samples = list[Sample]()
    with running(options.bundle) as (address, number):

        def watch(done: int) -> None:
            if done >= len(samples) * options.requests / STEP:
                samples.append(sample_process(number, done))
                print(f"{done} requests", file=sys.stderr, flush=True)

        tally = fuzz(address, options.requests, options.seed, watch)
    print(tally)
    for line in describe_samples(samples):
        print(line)
    problems = judge(samples)
    for problem in problems:
        print(problem)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
