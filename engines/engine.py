"""One graph, one plan, in this process.

One code path serves TensorRT 10.3 to 11 and TensorRT-RTX.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.engines.progress import Phases
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.files import replace_file, sync, write_file
from vpt_edge.runtime.names import utf8_name
from vpt_edge.runtime.sessions.plan import Plan, Platform, Profile
from vpt_edge.runtime.sessions.tensorrt import LAST_MESSAGES, make_logger

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Job:
    """A plan to be made.

    ``digest``: of the graph, see ``runtime.sessions.plan``; ``workspace``: bytes, None: no limit;
    ``timing_cache``: the file that the builder's measurements are kept in, None: nowhere.
    """

    graph: str
    digest: str
    plan: str
    side_car: str
    timing_cache: str | None
    workspace: int | None
    platform: Platform
    profiles: tuple[Profile, ...]


def make_plan(
    trt: Any, job: Job, report: Callable[[str, float], None], stop: threading.Event
) -> Plan:
    """Build, and write the plan, its side-car and the timing cache. ``stop`` ends it by
    KeyboardInterrupt.

    An older plan stays until the new one is on the disk. The side-car comes last: where there is
    one, its plan is whole.
    """
    began = time.monotonic()
    engine, timings = build(trt, job, report, stop)
    report("Writing the plan", 1.0)
    memory = memoryview(engine)
    seconds = round(time.monotonic() - began, 3)
    plan = Plan(
        platform=job.platform,
        graph=job.digest,
        profiles=job.profiles,
        sha256=hashlib.sha256(memory).hexdigest(),
        bytes=memory.nbytes,
        seconds=seconds,
    )
    with replace_file(job.side_car) as side_car, replace_file(job.plan) as file:
        side_car.write_bytes(plan.to_json().encode())
        file.write_bytes(memory)
        sync(file)
        Path(job.side_car).unlink(missing_ok=True)
    if job.timing_cache and timings is not None:
        write_file(Path(job.timing_cache), memoryview(timings))
    return plan


def build(
    trt: Any, job: Job, report: Callable[[str, float], None], stop: threading.Event
) -> tuple[Any, Any]:
    """The plan and the timing cache in the builder's own memory; no timing cache where the job
    names none.
    """
    messages = deque[str](maxlen=LAST_MESSAGES)
    logger = make_logger(trt, messages)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    # The parser maps the weights, and must live until the plan is built.
    parser = trt.OnnxParser(network, logger)
    report("Reading the graph", 0.0)
    _parse(parser, job, messages)
    config = _configure(trt, builder, job)
    _add_profiles(builder, network, config, job)
    timing_cache = _timing_cache(trt, config, job)
    monitor = make_monitor(trt, report, stop)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if stop.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise _refusal(job, messages)
    if timing_cache is None:
        return plan, None
    return plan, config.get_timing_cache().serialize()


def _parse(parser: Any, job: Job, messages: deque[str]) -> None:
    with utf8_name(Path(job.graph)) as name:
        if parser.parse_from_file(name):
            return
    problems = [str(parser.get_error(index)) for index in range(parser.num_errors)]
    raise SessionError(
        f"{_title(job)} does not parse {_file_name(job)}: {'; '.join(problems or messages)}",
        "export the bundle again",
    )


def _configure(trt: Any, builder: Any, job: Job) -> Any:
    config = builder.create_builder_config()
    if hasattr(trt.BuilderFlag, "TF32"):
        # float32 means float32; who wants speed asks for fp16.
        config.clear_flag(trt.BuilderFlag.TF32)
    if job.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace)
    return config


def _refusal(job: Job, messages: deque[str]) -> SessionError:
    cause = "; ".join(messages) or "nothing in its log"
    fix = ""
    if job.workspace is not None:
        fix = f"the workspace was limited to {job.workspace >> 20} MiB: --workspace"
    return SessionError(f"{_title(job)} does not build {_file_name(job)}: {cause}", fix)


def _title(job: Job) -> str:
    return f"{job.platform.library} {job.platform.version}"


def _file_name(job: Job) -> str:
    """Of the graph; its folder may be one that is held open, whose way tells nobody anything."""
    return Path(job.graph).name


def _network_flags(trt: Any) -> int:
    """Strongly typed: from TensorRT 11 on the only way, and without a flag in some versions."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _add_profiles(builder: Any, network: Any, config: Any, job: Job) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = [tensor.name for tensor in inputs if -1 in tuple(tensor.shape)]
    if not dynamic:
        return
    for profile in job.profiles:
        optimization = builder.create_optimization_profile()
        for name in dynamic:
            optimization.set_shape(name, *profile.shapes[name])
        if config.add_optimization_profile(optimization) < 0:
            raise SessionError(
                f"{_title(job)} refuses the profile {profile.name!r} of {_file_name(job)}"
            )


def _timing_cache(trt: Any, config: Any, job: Job) -> Any:
    """The measurements of earlier builds, set in ``config``; new ones where the file does not fit.

    They only save time.
    """
    if job.timing_cache is None or not hasattr(trt, "ITimingCache"):
        return None
    path = Path(job.timing_cache)
    measurements = path.read_bytes() if path.is_file() else b""
    for content in (measurements, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def make_monitor(trt: Any, report: Callable[[str, float], None], stop: threading.Event) -> Any:
    """What the builder tells its phases to, and asks whether to go on.

    It is called from the builder's threads.
    """
    phases = Phases(report)

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name)
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
