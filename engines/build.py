"""Builds a bundle's plans, one process for each graph."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vpt_edge.engines import resources
from vpt_edge.engines.engine import Job
from vpt_edge.engines.profiles import profiles
from vpt_edge.engines.resources import MIB, Need
from vpt_edge.runtime.bundle import Bundle, read_as, sha256
from vpt_edge.runtime.errors import SessionError, VptError
from vpt_edge.runtime.files import PARTIAL
from vpt_edge.runtime.sessions.plan import (
    Platform,
    Profile,
    digest,
    graph_files,
    plan_files,
    read_plan,
)

PATIENCE = 10.0  # seconds that a process has to end by itself after Ctrl-C
TICK = 0.2
TIMINGS = "timing.cache"

Watch = Callable[[str, float], None]


@dataclass(frozen=True)
class Task:
    """A graph and its plan; ``reason`` says why it has to be built, "" where it is up to date."""

    name: str
    profiles: tuple[Profile, ...]
    plan: Path
    side_car: Path
    need: Need
    reason: str


@dataclass(frozen=True)
class Survey:
    """What there is to do for a bundle here.

    ``gpu_free``: bytes, of a card that has memory of its own.
    """

    bundle: Bundle
    platform: Platform
    gpu_free: int | None
    tasks: tuple[Task, ...]


def survey(bundle: Bundle, library: str) -> Survey:
    """Look at the bundle and at this machine.

    Raises VptError if its graphs are not for TensorRT, or it is not here.
    """
    manifest = bundle.manifest
    if manifest.target != "tensorrt":
        raise SessionError(
            f"{bundle.path} was exported for {manifest.target}, expected graphs for TensorRT: "
            f"vpt-export CHECKPOINT -o BUNDLE --precision {manifest.precision} --target tensorrt"
        )
    found = _Process({"task": "probe", "library": library}, f"looking for {library}").run(
        lambda stage, done: None
    )
    platform = read_as(Platform, found["platform"], "the platform")
    tasks = []
    for name, graph in manifest.graphs.items():
        made, (plan, side_car) = profiles(graph, library), plan_files(bundle, platform, name)
        size = sum(bundle.file(file).stat().st_size for file in graph_files(bundle, name))
        need, reason = resources.need(name, size, library), _reason(bundle, platform, name, made)
        tasks.append(Task(name, made, plan, side_car, need, reason))
    return Survey(bundle, platform, found["gpu_free"], tuple(tasks))


def _reason(bundle: Bundle, platform: Platform, name: str, made: tuple[Profile, ...]) -> str:
    """Why the plan of a graph has to be built."""
    path, side_car = plan_files(bundle, platform, name)
    if not side_car.is_file() or not path.is_file():
        return "not built yet"
    try:
        plan = read_plan(side_car)
    except VptError:
        return f"{side_car.name} is not readable"
    if plan.platform != platform:
        return f"built with {plan.platform}, this is {platform}"
    if plan.graph != digest(bundle, name):
        return "the graph has changed"
    if plan.profiles != made:
        return "the profiles have changed"
    if path.stat().st_size != plan.bytes or sha256(path) != plan.sha256:
        return "the plan is damaged"
    return ""


def build(found: Survey, task: Task, workspace: int | None, watch: Watch) -> dict[str, Any]:
    """Make one plan, in a process of its own: {"bytes", "seconds", "peak_memory"}.

    Raises VptError if that fails.
    """
    folder = task.plan.parent
    folder.mkdir(parents=True, exist_ok=True)
    keeps = (
        found.platform.library == "tensorrt"
    )  # TensorRT-RTX measures on the card that runs the plan
    job = Job(
        graph=str(found.bundle.file(found.bundle.graph(task.name).file)),
        digest=digest(found.bundle, task.name),
        plan=str(task.plan),
        side_car=str(task.side_car),
        timing_cache=str(folder / TIMINGS) if keeps else None,
        workspace=_workspace(found) if workspace is None and keeps else workspace,
        platform=found.platform,
        profiles=task.profiles,
    )
    _sweep(folder)
    process = _Process({"task": "build", "job": dataclasses.asdict(job)}, f"building {task.name}")
    try:
        made: dict[str, Any] = process.run(watch)["built"]
    finally:
        _sweep(folder)
    return {**made, "peak_memory": process.peak}


def _workspace(found: Survey) -> int | None:
    """What is free: of the card, or of the memory that it shares with the CPU."""
    free = resources.free_memory()
    return found.gpu_free if found.gpu_free is not None else free[0] if free else None


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for path in folder.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


class _Process:
    """One run of ``vpt_edge.engines.worker``; ``title`` says in errors what it was doing."""

    def __init__(self, work: dict[str, Any], title: str) -> None:
        self._work, self._title = work, title
        self.peak = 0

    def run(self, watch: Watch) -> dict[str, Any]:
        """The last message. Raises VptError for a failure; on Ctrl-C the process is ended first."""
        kills = resources.oom_kills()
        command = [sys.executable, "-m", "vpt_edge.engines.worker"]
        environment = {
            **os.environ,
            "PYTHONSAFEPATH": "1",
        }  # the working folder may hold a "tensorrt"
        with tempfile.TemporaryFile() as printed:
            process = subprocess.Popen(
                command,
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
            )
            try:
                result = self._follow(process, watch)
                process.wait()
            finally:
                _end(process)
            if process.returncode == 0 and result:
                return result
            raise self._failure(
                process.returncode, result, resources.oom_kills() - kills, _tail(printed)
            )

    def _follow(self, process: subprocess.Popen[str], watch: Watch) -> dict[str, Any]:
        """Hand on the progress; returns the message that is none."""
        result: dict[str, Any] = {}
        for message in _messages(process, self._work):
            self.peak = max(self.peak, resources.peak_memory(process.pid))
            if message is not None and "stage" in message:
                watch(message["stage"], message["fraction"])
            elif message is not None:
                result = message
        return result

    def _failure(
        self, code: int, result: dict[str, Any], kills: int, printed: str
    ) -> BaseException:
        if code in (130, -signal.SIGINT):
            return KeyboardInterrupt()
        if "error" in result:
            return VptError(f"{self._title} failed: {result['error']}")
        if code == -9:
            killer = (
                f"the kernel's count of processes killed for want of memory rose by {kills}: out of memory"
                if kills
                else "most likely out of memory, though the kernel's count of such kills did not rise"
            )
            seen = f"; it was seen to hold {self.peak // MIB} MiB" if self.peak else ""
            return VptError(
                f"{self._title} was killed: {killer}{seen}; {resources.advice(self.peak or 1)}"
            )
        what = f"signal {-code}" if code < 0 else f"exit code {code}"
        return VptError(f"{self._title} crashed with {what}: {printed or 'it printed nothing'}")


def _messages(
    process: subprocess.Popen[str], work: dict[str, Any]
) -> Iterator[dict[str, Any] | None]:
    """What the process says, and None at least every ``TICK`` seconds, until it closes its output."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # where it died at once, its exit code says more
        process.stdin.write(json.dumps(work) + "\n")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    lines, output = queue.Queue[str | None](), process.stdout

    def read() -> None:
        with output:
            for line in output:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=TICK)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield json.loads(line)


def _end(process: subprocess.Popen[str]) -> None:
    """See to it that the process has ended: it is asked to, and killed if it does not listen."""
    if process.poll() is not None:
        return
    try:
        process.send_signal(signal.SIGINT) if os.name == "posix" else process.terminate()
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def _tail(printed: IO[bytes]) -> str:
    printed.seek(0)
    return " ".join(printed.read().decode(errors="replace").split()[-60:])


def pending(tasks: Sequence[Task]) -> list[Task]:
    return [task for task in tasks if task.reason]
