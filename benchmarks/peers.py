"""Ours beside llama.cpp, transformers with torch, onnxruntime-genai and the authors' scheme: `make
bench-peers`.

    python -m benchmarks.peers --work build/peers --out build/peers.md

Random weights of Qwen2-VL-2B's shape, two threads, batch 1. Peers sit together in sittings, as
memory allows; ours sits in each of them. A round times each contender once, in turn, behind a pause
and an untimed run; ratios are of times within a round. Files that are there already in the work
folder are used again."""

from __future__ import annotations

import argparse
import datetime
import gc
import itertools
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks import big_checkpoint, libraries, models, question
from benchmarks.libraries import FLASH, MULTIPLYING, READING, TYPES, Timed
from benchmarks.question import LOOKS
from benchmarks.shape import STEPS
from vpt_edge.device import machine

THREADS, LAYERS, BLOCKS = 2, 28, 32
SITTINGS = (
    "llama",
    "genai",
    "torch-bfloat16",
    "torch-float32",
    "question-bfloat16",
    "question-float32",
)
OURS = {
    "int4": ("int4", "float"),
    "int8": ("int8", "float"),
}  # precision, and what keys and values are kept in
LONG_CONTEXT = {"int4 with an int8 cache": ("int4", "int8")}
LIBRARIES = (
    "onnxruntime",
    "llama-cpp-python",
    "torch",
    "transformers",
    "onnxruntime-genai",
    "numpy",
)
READINGS = [f"{READING}, {way}" for way in ("dot", "or")]
PAUSE, REPEATS = (
    0.3,
    dict.fromkeys([*READINGS, *(what for what, (count, _) in STEPS.items() if count == 1)], 8),
)
LONG = {what for look in LOOKS for what in (look.question, look.scratch)}
PREFILL = next(what for what, (_, cached) in STEPS.items() if not cached)
Opener: TypeAlias = Callable[[dict[str, Any]], Any]  # is given those that are open already
Times: TypeAlias = dict[str, dict[str, list[float]]]


def in_child(make: Callable[..., object], *arguments: object, out: Path, last: str = "") -> Path:
    """``out``, made by a process of its own, which gives all its memory back; or the one that is
    there.

    A folder without the file ``last`` is of an earlier version, and made again.
    """
    if not (out / last).exists():
        print(f"writing {out}", flush=True)
        part = out.with_name(f"part-{out.name}")
        shutil.rmtree(part, ignore_errors=True)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(make, *arguments, part).result()
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    return out


def contenders(sitting: str, work: Path, layers: int, compiled: bool) -> dict[str, Opener]:
    """What opens each contender of a sitting, by its name; ours come first."""
    config = big_checkpoint.make_config(
        "clip", "2b", layers, BLOCKS if layers == LAYERS else layers
    )
    checkpoint = in_child(big_checkpoint.write_checkpoint, config, out=work / "checkpoint")
    sat, _, dtype = sitting.partition("-")
    ours = {
        name: in_child(
            models.write_ours, checkpoint, *how, out=work / name, last="reencoder_projector.onnx"
        )
        for name, how in (OURS | LONG_CONTEXT if sat == "llama" else OURS).items()
    }
    if sat == "question":
        folder = in_child(models.write_folder, checkpoint, "qwen2_vl", out=work / "qwen2_vl")
        found = {f"ours {name}": opener(question.Question, path) for name, path in ours.items()}
        scheme = f"authors' scheme, torch {dtype}"
        found[scheme] = lambda others: question.Authors(folder, dtype, others["ours int4"], THREADS)
        found[f"authors' evaluation, torch {dtype}"] = lambda others: others[scheme].with_loss()
        return found
    found = {"the machine": opener(libraries.Machine, THREADS)}
    found |= {f"ours {name}": opener(models.Ours, path) for name, path in ours.items()}
    if sat == "llama":
        for kind in [kind for kind in TYPES if not (work / f"{kind}.gguf").exists()]:
            whole = in_child(libraries.write_gguf, checkpoint, out=work / "bfloat16.gguf")
            in_child(libraries.quantize, whole, kind, out=work / f"{kind}.gguf")
        return found | {
            f"llama.cpp {kind}": opener(libraries.LlamaCpp, work / f"{kind}.gguf", THREADS)
            for kind in TYPES
        }
    folder = in_child(models.write_folder, checkpoint, "qwen2", out=work / "qwen2")
    if sat == "genai":
        found["onnxruntime-genai int4"] = opener(libraries.Genai, folder, work / "genai", THREADS)
        return found
    for through in (False, True)[: 1 + compiled]:
        name = f"transformers, torch {dtype}, {'compiled' if through else 'eager'}"
        found[name] = opener(models.Transformers, folder, dtype, through, THREADS)
    return found


def opener(make: Callable[..., Any], *arguments: object) -> Opener:
    return lambda others: make(*arguments)


def seconds(timed: Timed, what: str) -> float:
    """Of one run, behind a pause in which other libraries' idle threads stop spinning, and an
    untimed run."""
    prepare, run = timed
    prepare()
    time.sleep(PAUSE)
    if what not in LONG:  # the first round has to do for those
        run()
    repeats = REPEATS.get(what.removesuffix(FLASH), 1)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


@dataclass
class Table:
    """All times by sitting, contender and what was done, and how they are told."""

    sittings: list[Times] = field(default_factory=list)
    touched: dict[tuple[str, str], int] = field(default_factory=dict)  # bytes that a step must read
    products: dict[str, int] = field(
        default_factory=dict
    )  # weights that a prefill multiplies in int8
    errors: dict[str, str] = field(default_factory=dict)

    def all_of(self, name: str, what: str) -> list[float]:
        return [taken for times in self.sittings for taken in times.get(name, {}).get(what, ())]

    def markdown(self) -> str:
        lines = list[str]()
        if rates := [rate / 1e12 for times in self.sittings for rate in _multiplying(times)]:
            read = [rate / 1e9 for times in self.sittings for rate in _reading(times)]
            lines.append(
                f"Reading: {spread(read, 1)} GB/s; int8 products: {spread(rates, 2)} Tops/s."
            )
        for what in (*STEPS, *(look.question for look in LOOKS)):
            rows = {
                name: None
                for times in self.sittings
                for name, found in times.items()
                if what in found
            }
            if not rows:
                continue
            tokens = STEPS.get(what, (0, 0))[0]
            lines += [
                "",
                f"| {what} | ms | tokens/s | times int4's | times int8's | floor, ms | of the floor |",
            ]
            lines += ["|---|---:|---:|---:|---:|---:|---:|"]
            for name in rows:
                taken, floors = self.all_of(name, what), self._floors(name, what)
                rate = f"{tokens / float(np.median(taken)):.1f}" if tokens else ""
                cells = [spread([1000 * each for each in taken], 1), rate]
                cells += [self._ratio(name, f"ours {ours}", what) for ours in ("int4", "int8")]
                shares = [100 * floor / each for floor, each in zip(floors, taken, strict=False)]
                cells += (
                    [f"{1000 * np.median(floors):.1f}", spread(shares, 0)] if floors else [""] * 2
                )
                lines.append(f"| {' | '.join([name, *cells])} |")
        lines += self._looks()
        return "\n".join(
            [*lines, "", *(f"Not there: {name}: {why}" for name, why in self.errors.items())]
        )

    def _floors(self, name: str, what: str) -> list[float]:
        """Seconds that the machine itself would need in each round: for reading, or for the
        products of a prefill."""
        sittings = [times for times in self.sittings if what in times.get(name, {})]
        if (name, what) in self.touched:
            return [
                self.touched[name, what] / rate for times in sittings for rate in _reading(times)
            ]
        operations = 2 * STEPS[PREFILL][0] * self.products.get(name, 0) if what == PREFILL else 0
        return [
            operations / rate for times in sittings for rate in _multiplying(times) if operations
        ]

    def _looks(self) -> list[str]:
        """What a look costs, beside a run of our own from scratch in the same round."""
        lines = [
            "",
            "| | the look, ms | from scratch, ms | the look, % of it |",
            "|---|---:|---:|---:|",
        ]
        names = {name: None for times in self.sittings for name in times}
        for look, name in itertools.product(LOOKS, names):
            waits, whole = self.all_of(name, look.wait), self.all_of(name, look.scratch)
            if waits:
                shares = [100 * wait / taken for wait, taken in zip(waits, whole, strict=True)]
                cells = [spread([1000 * each for each in times], 0) for times in (waits, whole)]
                lines.append(
                    f"| {' | '.join([f'{name}, {look.kind}', *cells, spread(shares, 1)])} |"
                )
        return [*lines, "", question.NOTE] if lines[3:] else []

    def _ratio(self, name: str, ours: str, what: str) -> str:
        """Of the times within each round of the sittings in which both are."""
        both = [
            t
            for t in self.sittings
            if name != ours and what in t.get(name, ()) and what in t.get(ours, ())
        ]
        ratios = [
            one / base for t in both for one, base in zip(t[name][what], t[ours][what], strict=True)
        ]
        return spread(ratios, 2) if ratios else ""


def _reading(times: Times) -> list[float]:
    """Bytes a second in each round of a sitting, the better way of reading."""
    ways = [times.get("the machine", {}).get(way, []) for way in READINGS]
    return [libraries.READ / min(taken) for taken in zip(*ways, strict=True)]


def _multiplying(times: Times) -> list[float]:
    """int8 operations a second in each round of a sitting."""
    operations = 2 * libraries.WEIGHTS * math.prod(libraries.PRODUCT)
    return [operations / taken for taken in times.get("the machine", {}).get(MULTIPLYING, ())]


def spread(values: list[float], digits: int) -> str:
    """Median and quartiles."""
    low, middle, high = (f"{value:.{digits}f}" for value in np.percentile(values, (25, 50, 75)))
    return f"{middle} ({low} to {high})"


def better(times: Times) -> Times:
    """llama.cpp's better way, with flash attention or without, for each of what it does."""
    found: Times = {}
    for name, taken in times.items():
        for way, rounds in taken.items():
            kept, what = found.setdefault(name, {}), way.removesuffix(FLASH)
            if what not in kept or np.median(rounds) < np.median(kept[what]):
                kept[what] = rounds
    return found


def sit(openers: dict[str, Opener], rounds: int, table: Table) -> None:
    """Open every contender, time them in turn, close them.

    One that fails is left out, with what it said.
    """
    opened: dict[str, Any] = {}
    times: Times = {}
    for index in range(rounds + 1):
        for name, opener in openers.items():
            print(f"round {index}: {name}", flush=True)
            try:
                if not index:
                    opened[name] = opener(opened)
                for what, timed in opened[name].runs.items() if name in opened else ():
                    taken = seconds(timed, what)
                    if index:  # the first round warms up
                        times.setdefault(name, {}).setdefault(what, []).append(taken)
            except Exception as error:  # of any library: the others are timed all the same
                table.errors[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                opened.pop(name, None)
                times.pop(name, None)
    for name, contender in opened.items():
        table.touched |= {(name, what): size for what, size in contender.touched.items()}
        table.products |= {name: getattr(contender, "products", 0)}
        for what, waits in getattr(contender, "waits", {}).items():
            times[name][what] = waits[-rounds:]
        contender.close()
    table.sittings.append(better(times))
    gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Ours beside other libraries at Qwen2-VL-2B's shape, in turn."
    )
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", choices=SITTINGS, default=SITTINGS, metavar="NAME", help=str(SITTINGS)
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--work", type=Path, default=Path("build/peers"))
    parser.add_argument("--out", type=Path, default=Path("build/peers.md"), metavar="FILE")
    options = parser.parse_args()
    work = options.work / f"layers-{options.layers}"
    work.mkdir(parents=True, exist_ok=True)
    table = Table()
    said = f"{datetime.date.today()}, {machine.check_cpu().found}; {options.layers} layers, {options.rounds} rounds; "
    said += f"load before {os.getloadavg()[0]:.1f}; " + ", ".join(
        f"{name} {version(name)}" for name in LIBRARIES
    )
    for sitting in options.only:
        sit(contenders(sitting, work, options.layers, options.compile), options.rounds, table)
        options.out.write_text(f"{said}\n\n{table.markdown()}\n", "utf-8")
    print(options.out.read_text("utf-8"))


if __name__ == "__main__":
    main()
