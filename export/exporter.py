"""Checkpoint -> bundle, as a list of named steps."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from vpt_edge.export.attention import TARGETS
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.destination import check_destination
from vpt_edge.export.quantization.calibrator import Calibration, Planner
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.streamed import streamed_bundle
from vpt_edge.export.verify import try_bundle
from vpt_edge.export.writer import RANGES, REPORT, BundleWriter, Progress
from vpt_edge.runtime.bundle import (
    EXPORT_AGAIN,
    MANIFEST,
    Bundle,
    ImageLimits,
    Manifest,
    read_as,
)
from vpt_edge.runtime.errors import BundleError, CheckpointError, ExportError
from vpt_edge.runtime.files import replace_folder

STREAMED_ABOVE = 2 << 30  # bytes of the float model
CACHE_TOKENS = 4096  # prompts of up to 2048 (the authors' cut-off), a second look and an answer
KV_CACHES = ("float", "int8")


def export(
    source: str,
    bundle: str | os.PathLike[str],
    *,
    precision: str,
    target: str = "onnxruntime",
    cache_tokens: int = CACHE_TOKENS,
    calibration: Calibration | None = None,
    progress: Progress = lambda stage, done: None,
) -> Bundle:
    """Write the checkpoint ``source`` (a folder or a Hub id) as the bundle folder ``bundle``.

    The bundle appears when it is complete and has answered a question; an older bundle in its place
    is replaced then. A folder that holds anything else is refused, and a symlink followed. A
    quantized precision needs a ``calibration``, whose ranges wait in ``<bundle>.ranges.json`` for
    another run. ``progress`` is told each stage and the share that is done. Raises CheckpointError,
    and ExportError also where the gate does not hold."""
    _check_options(precision, target, cache_tokens, calibration)
    path = Path(bundle)
    check_destination(path)
    with replace_folder(path) as folder:
        progress("reading the checkpoint", 0.0)
        checkpoint = Checkpoint.open(source)
        _check_values(checkpoint.image, source)
        job = BundleWriter(checkpoint, RECIPES[precision], target, cache_tokens, folder)
        _check_values(job.manifest(), source)
        if calibration is None:
            job.run(progress)
        else:
            _quantized(job, calibration, path.with_name(f"{path.name}.ranges.json"), progress)
        progress("asking the new bundle", 0.99)
        manifest = try_bundle(folder)
        check_destination(path)  # what the user has put there meanwhile
    progress("done", 1.0)
    return Bundle(path, manifest)


def _check_options(
    precision: str, target: str, cache_tokens: int, calibration: Calibration | None
) -> None:
    _check_choice("precision", precision, RECIPES)
    _check_choice("target", target, TARGETS)
    if cache_tokens < 1:
        raise ExportError(f"cache_tokens is {cache_tokens}, expected 1 or more")
    if RECIPES[precision].quantized != (calibration is not None):
        needs = "takes no calibration data"
        if calibration is None:
            needs = "needs calibration data"
        raise ExportError(
            f"{precision} {needs}: vpt-export … --precision int8 --calibration-data DATA"
        )
    if calibration is None:
        return
    _check_choice("kv_cache", calibration.kv_cache, KV_CACHES)
    if calibration.kv_cache == "int8" and target != "onnxruntime":
        raise ExportError(
            f"graphs for {target} keep keys and values in float", "leave out --kv-cache int8"
        )


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ExportError(f"{name} {value!r} is unknown, expected one of: {', '.join(choices)}")


def _check_values(record: Manifest | ImageLimits, source: str) -> None:
    """Say before the work what a reader of the manifest would refuse after it."""
    values = json.loads(json.dumps(asdict(record)))
    try:
        read_as(type(record), values, type(record).__name__)
    except BundleError as error:
        reason = str(error).removesuffix(f"; {EXPORT_AGAIN}")
        raise CheckpointError(
            f"{source} has a value that no bundle can hold ({reason})",
            "correct its config files, or download the checkpoint again",
        ) from error


def _quantized(
    job: BundleWriter, calibration: Calibration, cache: Path, progress: Progress
) -> None:
    """A float reference, a plan from the samples, and candidates until one passes the gate.

    The gate runs ONNX Runtime's dialect whatever the target: the numbers are the same.
    """
    with tempfile.TemporaryDirectory(prefix=".reference.", dir=job.folder.parent) as work:
        candidate = Path(work) / "candidate"
        reference = _reference(job, Path(work) / "float", calibration.streamed, progress)
        planner = Planner(job, reference, calibration, cache, progress)
        plan = planner.plan()
        while True:
            shutil.rmtree(candidate, ignore_errors=True)
            candidate.mkdir()
            tried = replace(job, target="onnxruntime", folder=candidate, plan=plan)
            tried.run(lambda stage, done: progress(f"candidate: {stage}", 0.5 + 0.2 * done))
            bundle = Bundle.read(candidate)
            gate = planner.judge(bundle, plan)
            if gate.held:
                break
            plan = planner.relieved(plan, gate)
        (job.folder / "report.html").write_text(planner.page(plan), "utf-8")
        made = replace(job, plan=plan)
        if job.target == "onnxruntime":  # the candidate is what was asked for
            hashes = {}
            for path in candidate.iterdir():
                if path.name not in (MANIFEST, REPORT, RANGES):
                    path.rename(job.folder / path.name)
                    hashes[path.name] = bundle.manifest.files[path.name]
            made.seal(replace(made.manifest(), gate=gate), hashes)
        else:
            made.run(progress, gate)


def _reference(
    job: BundleWriter, folder: Path, streamed: bool | None, progress: Progress
) -> Bundle:
    """The float model that a quantized one is held against: exported to ``folder``, or streamed
    where it is large."""
    if streamed is None:
        shapes = job.checkpoint.model.tensors().values()
        numbers = sum(math.prod(shape) for shape in shapes)
        streamed = 4 * numbers > STREAMED_ABOVE
    if streamed:
        progress("reading the checkpoint", 0.1)
        return streamed_bundle(job)
    folder.mkdir()
    made = BundleWriter(job.checkpoint, RECIPES["fp32"], "onnxruntime", job.cache_tokens, folder)
    made.run(lambda stage, done: progress(f"float reference: {stage}", 0.3 * done))
    return Bundle.open(folder)
