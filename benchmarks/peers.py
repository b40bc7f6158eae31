"""Ours beside llama.cpp, transformers with torch, onnxruntime-genai and the authors' scheme: `make
bench-peers`.

    python -m benchmarks.peers --work build/peers --out build/peers.md

Random weights of Qwen2-VL-2B's shape, or of ``--kind``, two threads, batch 1. Peers sit together in
sittings, as memory allows; ours sits in each of them. A round times each contender once, in turn,
behind a pause and an untimed run; ratios are of times within a round. Files that are there already
in the work folder are used again.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks import big_checkpoint, libraries, models, question
from benchmarks.bare_machine import BareMachine
from benchmarks.libraries import FLASH, TYPES, Timed
from benchmarks.peers_table import READINGS, Table, Times
from benchmarks.plain_configs import CONFIGS
from benchmarks.question import LOOKS
from benchmarks.shape import STEPS
from vpt_edge.device import machine

THREADS = 2
LAYERS = 28
BLOCKS = 32
SITTINGS = (
    "llama",
    "genai",
    "torch-bfloat16",
    "torch-float32",
    "question-bfloat16",
    "question-float32",
)
PLAIN_SITTINGS = ("llama", "question")  # of ``--kind``
OURS = {  # precision, and what keys and values are kept in
    "int4": ("int4", "float"),
    "int8": ("int8", "float"),
}
LONG_CONTEXT = {"int4 with an int8 cache": ("int4", "int8")}
PERCEPTIONS = {"qwen3-vl-2b": "qwen3-vl-zoom", "qwen3-vl-4b": "qwen3-vl-zoom"}  # of ``--kind``
LIBRARIES = (
    "onnxruntime",
    "llama-cpp-python",
    "torch",
    "transformers",
    "onnxruntime-genai",
    "numpy",
)
SINGLE = [what for what, (count, _) in STEPS.items() if count == 1]  # steps of one token
PAUSE = 0.3
REPEATS = dict.fromkeys([*READINGS, *SINGLE], 8)
LONG = {what for look in LOOKS for what in (look.question, look.scratch)}
Opener: TypeAlias = Callable[[dict[str, Any]], Any]  # is given those that are open already


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


def plain_contenders(sitting: str, work: Path, kind: str) -> dict[str, Opener]:
    """The same of a model without looks of its own: llama.cpp's sitting, and our own questions."""
    checkpoint = in_child(big_checkpoint.write_checkpoint, CONFIGS[kind], out=work / "checkpoint")
    perception = PERCEPTIONS.get(kind)
    ours = {}
    for name, how in (OURS | LONG_CONTEXT).items():
        arguments = (checkpoint, *how, perception)
        ours[f"ours {name}"] = in_child(
            models.write_ours, *arguments, out=work / name, last="vision_encoder.onnx"
        )
    if sitting != "llama":
        return {name: opener(question.Question, path) for name, path in ours.items()}
    found = {"the machine": opener(BareMachine, THREADS)}
    found |= {name: opener(models.Ours, path) for name, path in ours.items()}
    return found | llama_contenders(checkpoint, work)


def llama_contenders(checkpoint: Path, work: Path) -> dict[str, Opener]:
    found = {}
    for kind in TYPES:
        file = work / f"{kind}.gguf"
        if not file.exists():
            whole = in_child(libraries.write_gguf, checkpoint, out=work / "bfloat16.gguf")
            in_child(libraries.quantize, whole, kind, out=file)
        found[f"llama.cpp {kind}"] = opener(libraries.LlamaCpp, file, THREADS)
    return found


def contenders(sitting: str, work: Path, layers: int, compiled: bool) -> dict[str, Opener]:
    """What opens each contender of a sitting, by its name; ours come first."""
    blocks = BLOCKS if layers == LAYERS else layers
    config = big_checkpoint.make_config("clip", "2b", layers, blocks)
    checkpoint = in_child(big_checkpoint.write_checkpoint, config, out=work / "checkpoint")
    sat, _, dtype = sitting.partition("-")
    own = OURS | LONG_CONTEXT if sat == "llama" else OURS
    last = "reencoder_projector.onnx"
    ours = {
        name: in_child(models.write_ours, checkpoint, *how, None, out=work / name, last=last)
        for name, how in own.items()
    }
    if sat == "question":
        folder = in_child(models.write_folder, checkpoint, "qwen2_vl", out=work / "qwen2_vl")
        found = {f"ours {name}": opener(question.Question, path) for name, path in ours.items()}
        scheme = f"authors' scheme, torch {dtype}"
        found[scheme] = lambda others: question.Authors(folder, dtype, others["ours int4"], THREADS)
        found[f"authors' evaluation, torch {dtype}"] = lambda others: others[scheme].with_loss()
        return found
    found = {"the machine": opener(BareMachine, THREADS)}
    found |= {f"ours {name}": opener(models.Ours, path) for name, path in ours.items()}
    if sat == "llama":
        return found | llama_contenders(checkpoint, work)
    folder = in_child(models.write_folder, checkpoint, "qwen2", out=work / "qwen2")
    if sat == "genai":
        found["onnxruntime-genai int4"] = opener(libraries.Genai, folder, work / "genai", THREADS)
        return found
    name = f"transformers, torch {dtype}"
    found[f"{name}, eager"] = opener(models.Transformers, folder, dtype, False, THREADS)
    if compiled:
        found[f"{name}, compiled"] = opener(models.Transformers, folder, dtype, True, THREADS)
    return found


def opener(make: Callable[..., Any], *arguments: object) -> Opener:
    return lambda others: make(*arguments)


def seconds(timed: Timed, what: str) -> float:
    """Of one run, behind a pause in which other libraries' idle threads stop spinning, and an
    untimed run.
    """
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


def better(times: Times) -> Times:
    """llama.cpp's better way, with flash attention or without, for each of what it does."""
    found: Times = {}
    for name, taken in times.items():
        for way, rounds in taken.items():
            kept = found.setdefault(name, {})
            what = way.removesuffix(FLASH)
            if what not in kept or np.median(rounds) < np.median(kept[what]):
                kept[what] = rounds
    return found


def time_once(contender: Any) -> dict[str, float]:
    """Seconds of each of a contender's runs."""
    return {what: seconds(timed, what) for what, timed in contender.runs.items()}


def sit(openers: dict[str, Opener], rounds: int, table: Table) -> None:
    """Open every contender, time them in turn, close them.

    One that fails is left out, with what it said.
    """
    opened: dict[str, Any] = {}
    times: Times = {}
    for index in range(rounds + 1):
        for name in openers if index == 0 else list(opened):
            print(f"round {index}: {name}", flush=True)
            try:
                if index == 0:
                    opened[name] = openers[name](opened)
                taken = time_once(opened[name])
            except Exception as error:  # of any library: the others are timed all the same
                table.errors[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                opened.pop(name, None)
                times.pop(name, None)
                continue
            if index > 0:  # the first round warms up
                for what, each in taken.items():
                    times.setdefault(name, {}).setdefault(what, []).append(each)
    take_facts(opened, rounds, times, table)
    table.sittings.append(better(times))
    gc.collect()


def take_facts(opened: dict[str, Any], rounds: int, times: Times, table: Table) -> None:
    """What contenders know of themselves, before they are closed."""
    for name, contender in opened.items():
        table.touched |= {(name, what): size for what, size in contender.touched.items()}
        table.products |= {name: getattr(contender, "products", 0)}
        for what, waits in getattr(contender, "waits", {}).items():
            times[name][what] = waits[-rounds:]
        contender.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Ours beside other libraries at a real model's shape, in turn."
    )
    parser.add_argument(
        "--kind", choices=CONFIGS, help="another model than Qwen2-VL-2B, beside llama.cpp alone"
    )
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", choices=SITTINGS, metavar="NAME", help=f"{SITTINGS}, all by default"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--work", type=Path, default=Path("build/peers"))
    parser.add_argument("--out", type=Path, default=Path("build/peers.md"), metavar="FILE")
    options = parser.parse_args()
    name = options.kind or f"layers-{options.layers}"
    work = options.work / name
    work.mkdir(parents=True, exist_ok=True)
    table = Table()
    said = f"{datetime.date.today()}, {machine.check_cpu().found}; "
    said += f"{name}, {options.rounds} rounds; "
    said += f"load before {os.getloadavg()[0]:.1f}; "
    said += ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    for sitting in options.only or (PLAIN_SITTINGS if options.kind else SITTINGS):
        if options.kind:
            openers = plain_contenders(sitting, work, options.kind)
        else:
            openers = contenders(sitting, work, options.layers, options.compile)
        sit(openers, options.rounds, table)
        options.out.write_text(f"{said}\n\n{table.markdown()}\n", "utf-8")
    print(options.out.read_text("utf-8"))


if __name__ == "__main__":
    main()
