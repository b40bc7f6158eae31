"""Builds a bundle's plans, one process for each graph."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.engines import resources
from vpt_edge.engines.engine import Job
from vpt_edge.engines.process import BuildProcess
from vpt_edge.engines.profiles import make_profiles
from vpt_edge.runtime.errors import BundleError, SessionError, VptError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.lock import lock_place
from vpt_edge.runtime.partial import sweep_files
from vpt_edge.runtime.schema import read_as
from vpt_edge.runtime.sessions.plan import (
    TIMINGS,
    Platform,
    Profile,
    digest,
    graph_files,
    plan_files,
    read_plan,
)

if TYPE_CHECKING:
    from vpt_edge.engines.resources import Need
    from vpt_edge.runtime.bundle import Bundle

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

    @property
    def pending(self) -> list[Task]:
        """What has to be built."""
        return [task for task in self.tasks if task.reason]


def survey(bundle: Bundle, library: str) -> Survey:
    """Look at the bundle and at this machine.

    Raises VptError if its graphs are not for TensorRT, or it is not here.
    """
    manifest = bundle.manifest
    if manifest.target != "tensorrt":
        raise SessionError(
            f"{bundle.path} was exported for {manifest.target}, expected graphs for TensorRT",
            f"vpt-export CHECKPOINT -o BUNDLE --precision {manifest.precision} --target tensorrt",
        )
    probe = BuildProcess({"task": "probe", "library": library}, f"looking for {library}")
    answer = probe.run(lambda stage, done: None)
    platform = read_as(Platform, answer["platform"], "the platform")
    with bundle.hold() as held:
        tasks = tuple(_task(held, platform, name) for name in manifest.graphs)
    return Survey(bundle, platform, answer["gpu_free"], tasks)


def _task(bundle: Bundle, platform: Platform, name: str) -> Task:
    profiles = make_profiles(bundle.graph(name), platform.library)
    plan, side_car = plan_files(bundle, platform, name)
    size = sum(bundle.file(file).stat().st_size for file in graph_files(bundle, name))
    return Task(
        name=name,
        profiles=profiles,
        plan=plan,
        side_car=side_car,
        need=resources.estimate(name, size, platform.library),
        reason=_reason(bundle, platform, name, profiles),
    )


def _reason(bundle: Bundle, platform: Platform, name: str, profiles: tuple[Profile, ...]) -> str:
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
    if plan.profiles != profiles:
        return "the profiles have changed"
    if path.stat().st_size != plan.bytes or sha256(path) != plan.sha256:
        return "the plan is damaged"
    return ""


def check_resources(survey: Survey) -> None:
    """Raises VptError if what is to be built does not fit here."""
    needs = [task.need for task in survey.pending]
    if needs:
        resources.check(needs, survey.bundle.path, survey.gpu_free)


@contextmanager
def lock_plans(survey: Survey) -> Iterator[None]:
    """Keep another vpt-build away from the plans for this platform, and remove what a killed one
    has left of them. Raises LockedError, and VptError where nothing can be written.
    """
    folder = survey.tasks[0].plan.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_place(folder, "vpt-build"):
            for task in survey.tasks:
                _sweep(task)
            yield
    finally:
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):  # it holds plans
                empty.rmdir()


def build(survey: Survey, task: Task, workspace: int | None, watch: Watch) -> dict[str, Any]:
    """Make one plan, in a process of its own: {"bytes", "seconds", "peak_memory"}.

    ``workspace``: bytes, None: what is free. Within ``lock_plans``. Raises VptError if that fails.
    """
    built: dict[str, Any] = {}
    try:
        with survey.bundle.hold() as bundle:
            job = _job(survey, bundle, task, workspace)
            work = {"task": "build", "job": dataclasses.asdict(job)}
            process = BuildProcess(work, f"building {task.name}")
            built = process.run(watch)["built"]
    except BundleError:
        if built:  # of who knows which graph
            task.side_car.unlink(missing_ok=True)
        raise
    finally:
        _sweep(task)  # a process that crashed has left something
    return {**built, "peak_memory": process.peak}


def _job(survey: Survey, bundle: Bundle, task: Task, workspace: int | None) -> Job:
    timing_cache = None
    # TensorRT-RTX measures on the card that runs the plan, and needs no limit here.
    if survey.platform.library == "tensorrt":
        timing_cache = str(task.plan.parent / TIMINGS)
        if workspace is None:
            workspace = _free_memory(survey)
    return Job(
        graph=str(bundle.file(bundle.graph(task.name).file)),
        digest=digest(bundle, task.name),
        plan=str(task.plan),
        side_car=str(task.side_car),
        timing_cache=timing_cache,
        workspace=workspace,
        platform=survey.platform,
        profiles=task.profiles,
    )


def _free_memory(survey: Survey) -> int | None:
    """Bytes of the card, or of the memory that it shares with the CPU; None where the system does
    not tell.
    """
    if survey.gpu_free is not None:
        return survey.gpu_free
    memory = resources.find_memory()
    return None if memory is None else memory.available


def _sweep(task: Task) -> None:
    for path in (task.plan, task.side_car, task.plan.with_name(TIMINGS)):
        sweep_files(path)
