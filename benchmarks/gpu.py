"""What runs on this machine's GPU, how right and how fast: `make gpu`.

    python -m benchmarks.gpu --bundles build/gpu/bundles --out build/gpu --only tags golden

Each bundle is asked in a process of its own: a crash is one entry of the results, and the rest goes
on. After each of them ``results.json`` is written; a later call adds to it. Without a GPU it ends
with exit code 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.gpu_table import table
from benchmarks.shape import HOLLOW, fill
from benchmarks.speed import DEVICES
from vpt_edge import runtime
from vpt_edge.device import doctor, machine
from vpt_edge.live import scenes
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.sessions import cuda

STAGES = (
    "tags",
    "golden",
    "build",
    "speed",
    "compile",
)  # one command may not be given the time for all
PATTERNS = {"tags": "tags-*", "golden": "golden_*", "build": "shape-*"}  # of bundles, by stage
FACTS = ("board", "CUDA driver", "CUDA runtime", "TensorRT", "TensorRT-RTX", "ONNX Runtime")
PICTURES = 10
SEED = 2026
Entry = dict[str, Any]


def child(limit: int, *arguments: str) -> Entry:
    """The JSON object that a module prints as its last line, or what went wrong."""
    command = [sys.executable, "-m", *arguments]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, errors="replace", check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {limit} s"}
    try:
        if result.returncode == 0:
            return dict(json.loads(result.stdout.strip().splitlines()[-1]))
    except (IndexError, ValueError):
        pass
    said = " ".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-6:])
    return {"error": f"exit code {result.returncode}: {said[-900:]}"}


def ask(path: Path, device: str) -> Entry:
    """Questions about tags or a model's golden cases, and for ONNX Runtime what it leaves to the
    CPU.
    """
    found: Entry = {}
    if device == "cuda":
        found["on the CPU"] = left_to_cpu(path)
    with runtime.Pipeline(path, device) as pipeline:
        if path.name.startswith("tags-"):
            return found | ask_tags(pipeline)
        return found | ask_golden(pipeline, path)


def ask_tags(pipeline: runtime.Pipeline) -> Entry:
    rng = Random(SEED)
    right = 0
    asked = 0
    for _ in range(PICTURES):
        picture, samples = scenes.scene(rng)
        for sample in samples:
            answer = pipeline.ask(
                picture, sample.question, perception=sample.perception, max_new_tokens=16
            )
            asked += 1
            if answer.text == sample.answer:
                right += 1
    return {"right": right, "of": asked}


def ask_golden(pipeline: runtime.Pipeline, path: Path) -> Entry:
    """Ids, boxes and answers against the authors'."""
    from golden import CASES, Case, check_decisions

    cases = [
        case for case in map(Case, CASES) if path.name.startswith(f"golden_{case.model.name}-")
    ]
    wrong = []
    for case in cases:
        try:
            check_decisions(pipeline.ask(case.image, case.conversation["question"]), case)
        except AssertionError as error:
            wrong.append(f"{case.image.parent.name}: {' '.join(str(error).split())[:200]}")
    return {"right": len(cases) - len(wrong), "of": len(cases), "wrong": wrong}


def left_to_cpu(path: Path) -> dict[str, dict[str, int]]:
    """How often each operator of a graph was placed on the CPU although CUDA was asked for."""
    import onnxruntime

    found: dict[str, dict[str, int]] = {}
    for file in sorted(path.glob("*.onnx")):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CUDAExecutionProvider"]
        )
        parts = [
            part
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name.startswith("CPU")
        ]
        kinds = [node.op_type for part in parts for node in part.get_nodes()]
        found[file.stem] = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    return found


def check_bundles(bundles: Path) -> None:
    """Fill what came without weights, and open everything once."""
    for path in sorted(path for path in bundles.iterdir() if (path / "manifest.json").exists()):
        if (path / HOLLOW).exists():
            began = time.monotonic()
            fill(path)
            taken = time.monotonic() - began
            print(f"{path.name}: whole, weights made in {taken:.0f} s", flush=True)
        else:
            runtime.Bundle.open(path)
            print(f"{path.name}: whole", flush=True)


class Results:
    """What is known so far, in ``results.json`` after each entry."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "results.json"
        self.entries: Entry = {}
        if self._file.exists():
            self.entries = json.loads(self._file.read_text())

    def add(self, stage: str, name: str, entry: Entry) -> None:
        self.entries.setdefault(stage, {})[name] = entry
        self.write()
        now = f"{datetime.datetime.now():%H:%M:%S}"
        print(f"{now} {stage} {name}: {json.dumps(entry)[:400]}", flush=True)

    def write(self) -> None:
        self._file.write_text(json.dumps(self.entries, indent=1) + "\n")


def describe_machine(findings: list[machine.Finding]) -> Entry:
    """What ``vpt-doctor`` finds here, and which of it stands above the table."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": [dataclasses.asdict(finding) for finding in findings],
        "facts": FACTS,
        "python": platform.python_version(),
    }


def measure(options: argparse.Namespace) -> int:
    """All stages; returns the exit code."""
    check_bundles(options.bundles)
    findings, _ = doctor.examine()
    for finding in findings:
        print(f"{finding.state:7} {finding.check}: {finding.found}")
    try:
        cuda.Device.open()
    except SessionError as error:
        print(f"no GPU was measured, all up to the first CUDA call works: {error}", file=sys.stderr)
        return 2
    results = Results(options.out)
    results.entries |= describe_machine(findings)
    for stage, pattern in PATTERNS.items():
        if stage in options.only:
            for path in sorted(options.bundles.glob(pattern)):
                run_bundle(stage, path, options, results)
    for stage in ("speed", "compile"):
        if stage in options.only:
            results.entries[stage] = run_speed(stage, options)
            results.write()
    text = table(results.entries)
    (options.out / "table.md").write_text(text)
    print(text)
    return 0


def run_bundle(stage: str, path: Path, options: argparse.Namespace, results: Results) -> None:
    """One stage of a bundle on each device that takes its target: its plans, then its questions."""
    for device in options.devices:
        if not path.name.endswith(DEVICES[device]):
            continue
        if stage == "build" and device == "cuda":
            continue  # nothing is built for it
        flags = ("--device", device)
        entry: Entry = {}
        if device != "cuda":
            entry = child(options.limit, "vpt_edge.commands.build", str(path), *flags, "--json")
        if stage != "build" and "error" not in entry:
            entry = child(options.limit, "benchmarks.gpu", "--ask", str(path), *flags)
        results.add(stage, f"{device} {path.name.rsplit('-', 1)[0]}", entry)


def run_speed(stage: str, options: argparse.Namespace) -> Entry:
    flags = ["--rounds", str(options.rounds)]
    if stage == "compile":
        flags.append("--compiled")
    return child(options.limit, "benchmarks.speed", str(options.bundles), *flags)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="What runs on this machine's GPU, how right and how fast."
    )
    parser.add_argument("--bundles", type=Path, default=Path("build/gpu/bundles"))
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--devices", nargs="+", choices=tuple(DEVICES), default=tuple(DEVICES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=560, help="seconds for one process")
    for internal in ("--ask", "--device"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("VPT_SHARED", str((options.bundles / "shared").resolve()))
    wheels = [str(lib) for entry in sys.path for lib in sorted(Path(entry).glob("nvidia/*/lib"))]
    if (
        wheels and "VPT_GPU_LIBRARIES" not in os.environ
    ):  # for all children: CUDA's libraries lie in wheels
        known = os.environ.get("LD_LIBRARY_PATH", "")
        os.environ |= {
            "VPT_GPU_LIBRARIES": "set",
            "LD_LIBRARY_PATH": ":".join([*wheels, *filter(None, [known])]),
        }
    if options.ask:
        try:
            print(json.dumps(ask(Path(options.ask), options.device)))
        except Exception as error:  # of any library
            print(json.dumps({"error": f"{type(error).__name__}: {error}"[:900]}))
        return 0
    return measure(options)


if __name__ == "__main__":
    sys.exit(main())
