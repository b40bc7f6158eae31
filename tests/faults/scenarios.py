"""What the product writes, each with the states that it may be found in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

from golden import TAGS
from PIL import Image
from scripted import answer_of

from vpt_edge.calibration import collect
from vpt_edge.calibration.sample import Sample
from vpt_edge.engines import engine
from vpt_edge.export import exporter
from vpt_edge.export.writer import BundleWriter
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.files import sha256, write_file
from vpt_edge.runtime.lock import lock_place
from vpt_edge.runtime.manifest import Manifest, write_manifest
from vpt_edge.runtime.sessions.plan import Platform, read_plan
from vpt_edge.runtime.testing import Script, tiny_bundle

NOTHING = "nothing"
OLD = "old"
NEW = "new"
DAMAGED = "damaged"
PLATFORM = Platform("tensorrt", "10.3.0", "12.6", "Orin", "8.7")


@dataclass(frozen=True)
class Scenario:
    """``prepare`` lays out a folder in the state ``first``, ``work`` writes in it, ``state`` says
    what is found; ``start`` begins the same work and fails at once. ``names``: all that may lie in
    the folder at the end. ``between``: whether there may be nothing after a kill until the next
    start.
    """

    name: str
    prepare: Callable[[Path], object]
    work: Callable[[Path], object]
    state: Callable[[Path], str]
    names: set[str]
    first: str = OLD
    start: Callable[[Path], object] | None = None
    exchange: bool = True
    between: bool = False


def scenarios(bundle: Path, folder: Path) -> list[Scenario]:
    """``bundle``: an export of tests/tags in fp32; ``folder``: for what is prepared once."""
    _script_export(bundle)
    old = folder / "old"
    shutil.copytree(bundle, old, ignore=shutil.ignore_patterns("plans"))
    write_manifest(replace(Bundle.open(old).manifest, source=OLD), old)
    return [*_exports(old), _ranges(bundle, folder), _plans(), _report(), _answer(folder)]


def export_bundle(root: Path) -> None:
    exporter.export(str(TAGS), root / "bundle", precision="fp32")


def bundle_state(root: Path) -> str:
    place = root / "bundle"
    if not place.exists():
        return NOTHING
    try:
        manifest = Bundle.open(place).manifest
    except VptError:
        return DAMAGED
    names = {path.name for path in place.iterdir()}
    if names != {*manifest.files, "manifest.json"}:
        return DAMAGED
    return OLD if manifest.source == OLD else NEW


def _script_export(bundle: Path) -> None:
    """Let an export copy its graphs instead of tracing them, and answer no question: the rest is
    the product's own.
    """
    manifest = Bundle.open(bundle).manifest

    def write_graph(self: BundleWriter, name: str) -> None:
        for file in manifest.files:
            if file.startswith(f"{name}.onnx"):
                (self.folder / file).write_bytes((bundle / file).read_bytes())

    def check(self: BundleWriter, name: str, written: Manifest) -> Manifest:
        return replace(written, parity=manifest.parity)

    setattr(BundleWriter, "write_graph", write_graph)  # noqa: B010
    setattr(BundleWriter, "check", check)  # noqa: B010
    setattr(exporter, "try_bundle", lambda folder: Bundle.open(folder).manifest)  # noqa: B010


def _exports(old: Path) -> list[Scenario]:
    def copy_old(root: Path) -> None:
        shutil.copytree(old, root / "bundle", copy_function=shutil.copyfile)

    def leave_orphans(root: Path) -> None:
        shutil.copytree(old, root / ".bundle.77.abcdefgh.vpt-old", copy_function=shutil.copyfile)
        (root / ".bundle.77.abcdefgh.vpt-partial").mkdir()
        (root / ".bundle.77.abcdefgh.vpt-partial" / "decoder.onnx").write_text("half")
        (root / ".bundle.vpt-lock").write_text("77 elsewhere\n")

    def start(root: Path) -> None:
        exporter.export(str(root / "nothing"), root / "bundle", precision="fp32")

    over = Scenario(
        "export over a bundle", copy_old, export_bundle, bundle_state, {"bundle"}, start=start
    )
    return [
        replace(over, name="export", prepare=lambda root: None, first=NOTHING),
        over,
        replace(over, name="export over a bundle by two renames", exchange=False, between=True),
        replace(over, name="export after a kill", prepare=leave_orphans, between=True),
    ]


def _ranges(bundle: Path, folder: Path) -> Scenario:
    picture = folder / "picture.png"
    Image.new("RGB", (8, 8)).save(picture)
    samples = [Sample(picture, "What?")]
    model: Any = SimpleNamespace(manifest=Bundle.open(bundle).manifest)
    recorder: Any = SimpleNamespace(divisors={}, statistics={}, largest={})
    setattr(collect, "open_pipeline", lambda *_: nullcontext())  # noqa: B010
    setattr(collect.Collector, "_ask", lambda *_: 1)  # noqa: B010

    def run(root: Path, name: str) -> None:
        collect.Collector(model, samples, root / "ranges.json").run(name, recorder)

    def state(root: Path) -> str:
        passes = json.loads((root / "ranges.json").read_text())["passes"]
        known = {"one": OLD, "one two": NEW}
        return known.get(" ".join(passes), DAMAGED)

    return Scenario(
        "ranges",
        lambda root: run(root, "one"),
        lambda root: run(root, "two"),
        state,
        {"ranges.json"},
    )


def _plans() -> Scenario:
    content = {OLD: b"old plan" * 500, NEW: b"new plan." * 900}

    def write(root: Path, which: str) -> None:
        folder = root / "plans"
        folder.mkdir(exist_ok=True)
        job = engine.Job(
            graph="decoder.onnx",
            digest=which,
            plan=str(folder / "decoder.plan"),
            side_car=str(folder / "decoder.json"),
            timing_cache=str(folder / "timing.cache"),
            workspace=None,
            platform=PLATFORM,
            profiles=(),
        )
        setattr(engine, "build", lambda *_: (content[which], b"timings"))  # noqa: B010
        with lock_place(folder, "vpt-build"):
            engine.make_plan(None, job, lambda *_: None, Event())

    def state(root: Path) -> str:
        plan = root / "plans" / "decoder.plan"
        side_car = plan.with_suffix(".json")
        if not side_car.exists():
            return NOTHING  # to be built again, and said so
        facts = read_plan(side_car)
        if facts.sha256 != sha256(plan):
            return DAMAGED
        return facts.graph

    return Scenario(
        "plans",
        lambda root: write(root, OLD),
        lambda root: write(root, NEW),
        state,
        {"plans", "decoder.plan", "decoder.json", "timing.cache"},
        between=True,
    )


def _report() -> Scenario:
    def state(root: Path) -> str:
        known = {b"old page" * 999: OLD, b"new page" * 999: NEW}
        return known.get((root / "report.html").read_bytes(), DAMAGED)

    return Scenario(
        "report",
        lambda root: write_file(root / "report.html", b"old page" * 999),
        lambda root: write_file(root / "report.html", b"new page" * 999),
        state,
        {"report.html"},
    )


def _answer(folder: Path) -> Scenario:
    answer = answer_of(Script("yes"), tiny_bundle(folder / "tiny"))

    def state(root: Path) -> str:
        place = root / "answer"
        if not place.exists():
            return NOTHING
        data = json.loads((place / "answer.json").read_text())
        Image.open(place / "overlay.png").load()
        return NEW if data["text"] == "yes" else DAMAGED

    return Scenario(
        "answer",
        lambda root: None,
        lambda root: answer.save(root / "answer"),
        state,
        {"answer"},
        first=NOTHING,
    )
