"""A plan: the engine that TensorRT made of one graph on one device, and the side-car that says for
what it is good.

Plans lie in ``BUNDLE/plans/<key>/``: ``decoder.plan``, as TensorRT wrote it, beside
``decoder.json``. A plan runs only under the TensorRT and on the GPU that built it; TensorRT-RTX
alone finishes its plans on whatever card it finds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.errors import BundleError, SessionError
from vpt_edge.runtime.external_data import read_external_data
from vpt_edge.runtime.fields import Bound, Number
from vpt_edge.runtime.schema import parse_json, read_as

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.manifest import Graph

PLANS = "plans"
TIMINGS = "timing.cache"  # of a builder, beside its plans
Shape = tuple[Bound, ...]


@dataclass(frozen=True)
class Platform:
    """What a plan is bound to. ``library`` is the device's name: "tensorrt" or "tensorrt-rtx".

    ``driver`` is the version of CUDA that the driver serves, ``capability`` that of the GPU. For
    TensorRT-RTX these three are "any".
    """

    library: str
    version: str
    driver: str
    gpu: str
    capability: str

    @property
    def folder(self) -> str:
        """The name of the folder below ``plans``."""
        parts = [self.library, self.version]
        if self.gpu != "any":
            parts += [self.gpu, f"sm{self.capability}"]
        return re.sub(r"[^a-z0-9._-]+", "-", "-".join(parts).lower())

    def __str__(self) -> str:
        library = f"{self.library} {self.version}"
        if self.gpu == "any":
            return library
        return f"{library} on {self.gpu} (compute {self.capability}, CUDA {self.driver})"


@dataclass(frozen=True)
class Profile:
    """The least, the usual and the largest shape of each input; ``name`` says for which run."""

    name: str
    shapes: dict[str, tuple[Shape, Shape, Shape]]

    def fits(self, graph: Graph) -> bool:
        """Whether it has shapes for the inputs of ``graph``, as many sizes as theirs have."""
        if set(self.shapes) != {tensor.name for tensor in graph.inputs}:
            return False
        for tensor in graph.inputs:
            if {len(shape) for shape in self.shapes[tensor.name]} != {len(tensor.shape)}:
                return False
        return True

    def holds(self, shapes: dict[str, Shape]) -> bool:
        """Whether inputs of ``shapes`` lie within the profile."""
        for name, shape in shapes.items():
            least, _, largest = self.shapes[name]
            if len(shape) != len(least):
                return False
            for low, side, high in zip(least, shape, largest, strict=True):
                if not low <= side <= high:
                    return False
        return True


@dataclass(frozen=True)
class Plan:
    """The side-car of a plan.

    ``graph``: ``digest`` of the graph that it was built from; ``sha256``, ``bytes``: of the plan;
    ``seconds``: how long the build took.
    """

    platform: Platform
    graph: str
    profiles: tuple[Profile, ...]
    sha256: str
    bytes: int
    seconds: Number

    def fits(self, graph: Graph) -> bool:
        """Whether all of its profiles are of the inputs of ``graph``."""
        return all(profile.fits(graph) for profile in self.profiles)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    def write(self, path: Path) -> None:
        path.write_text(self.to_json(), "utf-8")


def graph_files(bundle: Bundle, name: str) -> list[str]:
    """The file of the graph ``name`` and every file that its weights lie in."""
    file = bundle.graph(name).file
    places = read_external_data(bundle.file(file))
    return sorted({file, *(place.location for place in places)})


def digest(bundle: Bundle, name: str) -> str:
    """What the graph ``name`` is built from, in one sha256."""
    parts = [f"{file} {bundle.manifest.files[file]}" for file in graph_files(bundle, name)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def plan_files(bundle: Bundle, platform: Platform, name: str) -> tuple[Path, Path]:
    """Where the plan of the graph ``name`` and its side-car lie."""
    folder = bundle.path / PLANS / platform.folder
    return folder / f"{name}.plan", folder / f"{name}.json"


def find_plan(bundle: Bundle, platform: Platform, name: str) -> tuple[Path, Plan]:
    """The plan of the graph ``name`` for ``platform``.

    Raises SessionError where there is none, a foreign one, or one that cannot be read.
    """
    with _guard(bundle, platform, name):
        return _find_plan(bundle, platform, name)


def _find_plan(bundle: Bundle, platform: Platform, name: str) -> tuple[Path, Plan]:
    path, side_car = plan_files(bundle, platform, name)
    fix = _build_here(bundle, platform)
    if not path.is_file() or not side_car.is_file():
        folders = sorted(file.parent.name for file in (bundle.path / PLANS).glob(f"*/{name}.plan"))
        raise SessionError(
            f"{bundle.path} has no plan of {name} for {platform}, "
            f"found {', '.join(folders) or 'none at all'}",
            fix,
        )
    plan = read_plan(side_car)
    size = path.stat().st_size
    if plan.platform != platform:
        raise SessionError(f"{path} was built with {plan.platform}, this is {platform}", fix)
    if plan.graph != digest(bundle, name):
        raise SessionError(f"{path} was built from another {name}, sha256 {plan.graph[:12]}", fix)
    if not plan.fits(bundle.graph(name)):
        problem = f"its profiles are not of the inputs of {name}"
        raise SessionError(f"{side_car} is damaged ({problem})", fix)
    if size != plan.bytes:
        raise SessionError(f"{path} has {size} bytes, expected {plan.bytes}", fix)
    return path, plan


def map_plan(bundle: Bundle, platform: Platform, name: str) -> tuple[np.memmap[Any, Any], Plan]:
    """The bytes of the plan that ``find_plan`` finds, mapped from disk, and its side-car.

    Raises SessionError as ``find_plan`` does, and where the bytes are not those that were built:
    they are native code.
    """
    path, plan = find_plan(bundle, platform, name)
    if not plan.bytes:
        raise SessionError(f"{path} is empty", _build_here(bundle, platform))
    # Read from the page cache, not into memory of our own.
    with _guard(bundle, platform, name):
        mapped = np.memmap(path, np.uint8, mode="r")
    if hashlib.sha256(mapped.data).hexdigest() != plan.sha256:
        problem = f"{path} is altered: its sha256 is not that of {name}.json"
        raise SessionError(problem, _build_here(bundle, platform))
    return mapped, plan


@contextlib.contextmanager
def _guard(bundle: Bundle, platform: Platform, name: str) -> Iterator[None]:
    """Raise SessionError for a file that the system does not let us read."""
    try:
        yield
    except OSError as error:
        problem = f"the plan of {name} in {bundle.path} cannot be read ({error.strerror})"
        raise SessionError(problem, _build_here(bundle, platform)) from error


def _build_here(bundle: Bundle, platform: Platform) -> str:
    return f"build it here: vpt-build {bundle.path} --device {platform.library}"


def read_plan(side_car: Path) -> Plan:
    """Raises SessionError for a side-car that cannot be read."""
    try:
        return read_as(Plan, parse_json(side_car.read_bytes()), side_car.name)
    except (ValueError, OSError, BundleError) as error:
        raise SessionError(
            f"{side_car} is damaged ({error})", "build the plan again: vpt-build BUNDLE"
        ) from error
