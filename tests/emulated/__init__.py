"""A GPU that is not there: ``emulated`` puts one in place of CUDA and TensorRT.

See ``cuda`` and ``tensorrt``.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from emulated.cuda import Driver
from emulated.tensorrt import make
from vpt_edge.engines.engine import Job, make_plan
from vpt_edge.engines.profiles import make_profiles
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.sessions.plan import digest, plan_files
from vpt_edge.runtime.sessions.tensorrt import load_tensorrt, read_platform

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle

VERSIONS = ("10.3.0", "10.16.2", "11.4.1")
LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


@contextlib.contextmanager
def emulated(
    version: str = "10.3.0", *, library: str = "tensorrt", **options: Any
) -> Iterator[Driver]:
    """An emulated GPU and TensorRT (or "tensorrt-rtx") of ``version``; ``options`` are the
    ``Driver``'s.

    At the end nothing may have been done wrong, and everything must have been given back.
    """
    driver = Driver(**options)
    name = LIBRARIES[library]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "load_library", driver.library)
        patch.setattr(cuda.Device, "_one", None)
        patch.setitem(sys.modules, name, make(version, driver, name))
        yield driver
    assert not driver.errors, driver.errors
    assert not driver.leaks(), driver.leaks()


def build_plans(bundle: Bundle, library: str = "tensorrt") -> None:
    """Plans and side-cars of all graphs of ``bundle`` for the device that is emulated now, made as
    vpt-build does.
    """
    module = load_tensorrt(library)
    platform = read_platform(module, library)
    for name, graph in bundle.manifest.graphs.items():
        plan, side_car = plan_files(bundle, platform, name)
        plan.parent.mkdir(parents=True, exist_ok=True)
        job = Job(
            graph=str(bundle.file(graph.file)),
            digest=digest(bundle, name),
            plan=str(plan),
            side_car=str(side_car),
            timing_cache=str(plan.with_name("timing.cache")),
            workspace=None,
            platform=platform,
            profiles=make_profiles(graph, library),
        )
        make_plan(module, job, lambda stage, fraction: None, threading.Event())
