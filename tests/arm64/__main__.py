"""make arm64: installs the wheel in a Debian for AArch64 and runs tests there, emulated.

Run it as root, on Debian. It installs the emulator and debootstrap where they are missing, makes a
user space under ``build/arm64``, or uses the one that is there, and puts the tree's wheel with what
it needs into it. What runs there: the runtime's tests, the authors' golden cases where they are at
hand, questions about tags, to be answered as on this machine, and vpt-watch on a clip. It says
nothing about speed.

Ends with 1 when anything fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from debian import install_packages, read_mirror
from golden import GOLDEN, ROOT, SHARED
from outcomes import Outcome, print_table, read_outcome

from arm64.answers import write_answers
from arm64.clip import LINES, WATCHING, watch_clip, write_clip
from arm64.installation import install
from arm64.interpreter import interpret_arm64
from arm64.user_space import UserSpace

PYTEST = ("/venv/bin/python", "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Step:
    title: str
    tests: tuple[str, ...]  # pytest's arguments
    may_skip: bool = False


# TensorRT's GPU is emulated in Python: slow here, and nothing of it is AArch64's. The others export
# what they ask, which takes torch.
LEFT_OUT = (
    "--ignore=tests/runtime/sessions/test_trt.py",
    "--ignore=tests/runtime/sessions/test_trt_deep.py",
    "--ignore=tests/runtime/sessions/test_tensorrt_rtx.py",
    "--ignore=tests/runtime/models/test_qwen2_5_vl.py",
    "--ignore=tests/runtime/test_draft_graphs.py",
)
RUNTIME = Step("the runtime's tests", ("tests/runtime", *LEFT_OUT), may_skip=True)
TAGS = Step("the answers about tags are this machine's", ("tests/arm64/check_answers.py",))
WATCH = Step("vpt-watch on a clip", ("tests/arm64/check_watch.py",))
CHOICE = "test_answers and (onnxruntime or (in_int8 and float))"
CASES = Step("the golden cases in fp32 and int8", ("tests/test_golden.py", "-k", CHOICE))


def open_space(folder: Path) -> UserSpace:
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    wheels = folder / "wheels"
    wheels.mkdir(exist_ok=True)
    places = {"/tree": ROOT, "/wheels": wheels, "/bundles": folder / "bundles", "/out": out}
    variables = {"VPT_BUNDLES": "/bundles", "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis"}
    if GOLDEN.is_dir():
        places["/shared"] = SHARED
        variables["VPT_SHARED"] = "/shared"
    return UserSpace(folder, places, variables)


def run_step(space: UserSpace, step: Step, out: Path) -> Outcome:
    print(f"{step.title}:", flush=True)
    report = out / "report.xml"
    report.unlink(missing_ok=True)
    start = time.monotonic()
    command = (*PYTEST, "--junitxml=/out/report.xml", *step.tests)
    code = space.run(*command, at="/tree", check=False)
    return read_outcome(step.title, report, time.monotonic() - start, code, step.may_skip)


def run_steps(folder: Path) -> list[Outcome]:
    steps = [TAGS, WATCH, RUNTIME]
    if GOLDEN.is_dir():
        steps.insert(0, CASES)
    space = open_space(folder)
    with interpret_arm64():
        space.make(read_mirror())
        install(space, folder / "wheels")
        return [run_step(space, step, folder / "out") for step in steps]


def stop(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with the bundles that arm64.bundles wrote")
    folder = parser.parse_args().folder
    signal.signal(signal.SIGTERM, stop)
    if os.geteuid() != 0:
        raise SystemExit("error: only root may mount and change the root; run: sudo make arm64")
    install_packages("debootstrap", "qemu-user-static")
    if not GOLDEN.is_dir():
        print(f"no golden cases at {GOLDEN}; set VPT_SHARED", flush=True)
    bundles = folder / "bundles"
    write_answers(bundles)
    write_clip(bundles)
    watch_clip(bundles / WATCHING, bundles / LINES)
    outcomes = run_steps(folder)
    print_table("on AArch64, emulated", outcomes)
    return 0 if all(outcome.is_right for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
