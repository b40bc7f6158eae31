"""How fast each backend is at Qwen2-VL-2B's shape, beside torch on the same GPU, in turn within
each round.

    python -m benchmarks.speed build/gpu/bundles --rounds 5 --compiled

Prints one JSON object; ``benchmarks.gpu`` makes the table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.shape import REPEATS, STEPS, Run, Runner, bandwidth, bytes_of_a_step
from vpt_edge import runtime

DEVICES = {  # and the target of their graphs
    "cuda": "onnxruntime",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt",
}


Times = dict[str, dict[str, list[float]]]  # seconds of each round, by runner and what was run


def in_torch(dtype: str, compiled: bool) -> Any:
    torch = importlib.import_module("torch")
    eager = importlib.import_module("benchmarks.eager")
    return eager.TorchRunner(getattr(torch, dtype), compiled)


def openers(bundles: Path, compiled: bool) -> dict[str, Callable[[], Any]]:
    """What opens each runner, by the name of its row."""
    found: dict[str, Callable[[], Any]] = {}
    for path in sorted(bundles.glob("shape-*")):
        bundle = runtime.Bundle.open(path)
        for device, target in DEVICES.items():
            if target == bundle.manifest.target:
                found[f"{device} {bundle.manifest.precision}"] = partial(Runner, bundle, device)
    for dtype in ("float16", "bfloat16"):
        found[f"torch {dtype}, eager"] = partial(in_torch, dtype, False)
    if compiled:
        found["torch float16, compiled"] = partial(in_torch, "float16", True)
    return found


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:600]


def open_runners(bundles: Path, compiled: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Everything that is timed, by the name of its row, and why others are not there."""
    runners: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, make in openers(bundles, compiled).items():
        print(f"opening {name}", file=sys.stderr, flush=True)
        try:
            runners[name] = make()
        except Exception as error:  # of any library: the others are timed all the same
            errors[name] = describe(error)
    return runners, errors


def time_rounds(runners: dict[str, Any], errors: dict[str, str], rounds: int) -> Times:
    """Rounds in which each runner has its turn; one that fails leaves ``runners`` for
    ``errors``.
    """
    times: Times = {name: {} for name in runners}
    for index in range(rounds + 1):
        for name in list(runners):
            try:
                for what, run in runners[name].runs.items():
                    taken = seconds(run, REPEATS.get(what, 3))
                    if index:  # the first round compiles, captures and warms up
                        times[name].setdefault(what, []).append(taken)
            except Exception as error:  # see above
                errors[name] = describe(error)
                del runners[name]
    return times


def find_floors(bundles: Path, bandwidth: float) -> dict[str, dict[str, float]]:
    """Seconds that memory alone takes for a step of each precision."""
    floors: dict[str, dict[str, float]] = {}
    for path in sorted(bundles.glob("shape-*-tensorrt")):
        bundle = runtime.Bundle.open(path)
        floors[bundle.manifest.precision] = {
            name: bytes_of_a_step(bundle, cached) / bandwidth
            for name, (count, cached) in STEPS.items()
            if count == 1
        }
    return floors


def speed(bundles: Path, rounds: int, compiled: bool) -> dict[str, Any]:
    """Medians in seconds of rounds in which each runner has its turn, and the floor that memory
    sets to a step.
    """
    copied = bandwidth(seconds)
    runners, errors = open_runners(bundles, compiled)
    medians: dict[str, dict[str, float]] = {}
    for name, taken in time_rounds(runners, errors, rounds).items():
        medians[name] = {what: statistics.median(each) for what, each in taken.items()}
    return {
        "bandwidth": copied,
        "seconds": medians,
        "floors": find_floors(bundles, copied),
        "errors": errors,
        "rounds": rounds,
    }


def seconds(run: Run, repeats: int) -> float:
    for _ in range(2):  # the first run behind another shape records, the second one captures
        run()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description="Time every backend at Qwen2-VL-2B's shape.")
    parser.add_argument("bundles", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--compiled", action="store_true", help="torch.compile too, which takes minutes"
    )
    options = parser.parse_args()
    print(json.dumps(speed(options.bundles, options.rounds, options.compiled)))


if __name__ == "__main__":
    main()
