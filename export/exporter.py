"""Checkpoint -> bundle, as a list of named steps."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.calibration.model import BundleModel
from vpt_edge.export.attention import TARGETS
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.destination import check_destination, check_ranges
from vpt_edge.export.progress import Progress
from vpt_edge.export.quantization.calibrator import Calibrator, Draft, Places
from vpt_edge.export.quantization.gate import Judgement, QualityGate
from vpt_edge.export.quantization.quality import quality_report
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.quantization.selection import select_samples
from vpt_edge.export.quantization.sensitivity import Sensitivity
from vpt_edge.export.streamed import stream_checkpoint
from vpt_edge.export.verify import try_bundle
from vpt_edge.export.writer import RANGES, REPORT, BundleWriter
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import BundleError, CheckpointError, ExportError
from vpt_edge.runtime.files import replace_folder, work_folder
from vpt_edge.runtime.manifest import MANIFEST, Budget, ImageConfig, Manifest
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.schema import EXPORT_AGAIN, read_as
from vpt_edge.runtime.view_limits import BUDGETS

if TYPE_CHECKING:
    from vpt_edge.calibration.model import RecordableModel
    from vpt_edge.export.progress import Listener
    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.runtime.manifest import Gate

STREAMED_ABOVE = 2 << 30  # bytes of the float model
CACHE_TOKENS = 4096  # prompts of up to 2048 (the authors' cut-off), a second look and an answer
INT8_CACHE_SINCE = (1, 31)  # ONNX Runtime's version
NO_BUDGET = Budget()
ATTEMPT = 0.7  # of what progress is left, for the next candidate


def export(
    source: str,
    bundle: str | os.PathLike[str],
    *,
    precision: str,
    target: str = "onnxruntime",
    cache_tokens: int = CACHE_TOKENS,
    perception: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    budget: Budget = NO_BUDGET,
    calibration: Calibration | None = None,
    progress: Listener = lambda stage, done: None,
    note: Callable[[str], object] = lambda text: None,
) -> Bundle:
    """Write the checkpoint ``source`` (a folder or a Hub id) as the bundle folder ``bundle``.

    The bundle appears when it is complete and has answered a question, in the place of an older
    one. A folder that holds anything else is refused, as is one that another export is writing; a
    symlink is followed. A quantized precision needs a ``calibration``, whose ranges wait in
    ``<bundle>.ranges.json`` for another run. ``perception`` is the way of looking again of a
    checkpoint without tokens of its own for it, ``min_pixels`` to ``max_pixels`` what a picture is
    shown in; None: as its files say. ``budget``: the manifest's. ``progress`` is told each stage
    and the share that is done, ``note`` what the checkpoint's files ask for in vain. Raises
    CheckpointError, LockedError, and ExportError also where the gate does not hold.
    """
    _check_options(precision, target, cache_tokens, calibration)
    path = Path(bundle)
    check_destination(path)
    with replace_folder(path, "export", lambda: check_destination(path)) as folder:
        ranges = path.with_name(f"{path.name}.ranges.json")
        if calibration is not None:
            check_ranges(ranges)
        progress("reading the checkpoint", 0.0)
        checkpoint = Checkpoint.open(source, perception)
        checkpoint.limit_pixels(min_pixels, max_pixels, cache_tokens)
        _check_pixels(checkpoint, budget, source)
        for text in checkpoint.notes:
            note(text)
        job = BundleWriter(checkpoint, RECIPES[precision], target, cache_tokens, folder, budget)
        _check_values(job.manifest(), source)
        if calibration is None:
            job.run(progress)
        else:
            calibration = _choose_cache(calibration, checkpoint.model.tower.kv_cache, target)
            _quantize(job, calibration, ranges, Progress(progress, 0.0, 0.99))
        progress("asking the new bundle", 0.99)
        try_bundle(folder)
    progress("done", 1.0)
    return Bundle.read(path)  # not hashed again


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
    if calibration and calibration.kv_cache == "int8":
        _check_int8_cache(target)


def _check_pixels(checkpoint: Checkpoint, budget: Budget, source: str) -> None:
    _check_values(checkpoint.image, source)
    least = checkpoint.model.tower.processor.factor**2
    largest = checkpoint.image.max_pixels
    for name in BUDGETS:
        most: int | None = getattr(budget, name)
        if most is not None and not least <= most <= largest:
            option = name.replace("_", "-")
            raise ExportError(
                f"{name} is {most}, expected {least}, the pixels of one visual token, to the "
                f"bundle's max_pixels {largest}",
                f"give --{option} within them",
            )


def _check_int8_cache(target: str) -> None:
    if target != "onnxruntime":
        raise ExportError(f"graphs for {target} keep keys and values in float", "--kv-cache float")
    import onnxruntime

    version = onnxruntime.__version__
    major, minor, *_ = version.split(".")
    if (int(major), int(minor)) < INT8_CACHE_SINCE:
        raise ExportError(
            f"ONNX Runtime {version} has no attention with an int8 cache, expected 1.31 or later",
            "--kv-cache float, or pip install 'onnxruntime>=1.31'",
        )


def _choose_cache(calibration: Calibration, usual: str, target: str) -> Calibration:
    """``calibration`` with a cache of the ``usual`` kind where it asks for none; of float where
    ``target`` has no other.
    """
    if calibration.kv_cache is not None:
        return calibration
    if usual == "int8" and target == "onnxruntime":
        _check_int8_cache(target)
        return replace(calibration, kv_cache="int8")
    return replace(calibration, kv_cache="float")


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ExportError(f"{name} {value!r} is unknown, expected one of: {', '.join(choices)}")


def _check_values(record: Manifest | ImageConfig, source: str) -> None:
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


def _quantize(
    writer: BundleWriter, calibration: Calibration, ranges: Path, progress: Progress
) -> None:
    """A float reference, a plan from the samples, and candidates until one passes the gate.

    The gate runs ONNX Runtime's dialect whatever the target: the numbers are the same.
    """
    folder = writer.folder
    with work_folder(folder) as work:
        streamed = _is_streamed(writer, calibration)
        modes = open_perception(writer.manifest()).modes
        selection = select_samples(calibration, streamed, modes)
        reference = _reference(writer, work / "float", streamed, progress.part(0.0, 0.3))
        draft = Draft.of(writer)
        places = Places(ranges, work)
        calibrator = Calibrator(draft, reference, calibration, selection, places)
        plan = calibrator.calibrate(progress.part(0.3, 0.5))
        selection = replace(selection, notes=tuple(calibrator.notes))
        sensitivity = Sensitivity(plan, draft.read)
        gate = QualityGate(reference, calibration, selection, sensitivity, streamed)
        candidate = replace(writer, target="onnxruntime", folder=work / "candidate", plan=plan)
        candidate, judgement = _pass_gate(candidate, gate, progress.part(0.5, 0.9))
        progress.tell("measuring sensitivity", 0.9)
        errors = gate.measure_errors()
        assert candidate.plan is not None
        report = quality_report(judgement.evaluation, candidate.plan, calibrator.statistics, errors)
        (folder / "report.html").write_text(report, "utf-8", "replace")
        bundle = replace(writer, plan=candidate.plan)
        if writer.target == candidate.target:
            _adopt(candidate, bundle, judgement.gate)
        else:
            bundle.run(progress.part(0.9, 1.0).tell, judgement.gate)


def _pass_gate(
    candidate: BundleWriter, gate: QualityGate, progress: Progress
) -> tuple[BundleWriter, Judgement]:
    """Candidates with ever more in float until one holds; each takes its share of what is left of
    ``progress``. Raises ExportError where none holds.
    """
    while True:
        assert candidate.plan is not None
        shutil.rmtree(candidate.folder, ignore_errors=True)
        candidate.folder.mkdir()
        attempt = progress.part(0.0, ATTEMPT)
        progress = progress.part(ATTEMPT, 1.0)
        candidate.run(attempt.part(0.0, 0.5, "candidate: ").tell)
        bundle = BundleModel(Bundle.read(candidate.folder))
        judgement = gate.compare_with_float(bundle, candidate.plan, attempt.part(0.5, 1.0))
        if judgement.gate.held:
            return candidate, judgement
        attempt.tell("measuring sensitivity", 1.0)
        candidate = replace(candidate, plan=gate.fall_back(candidate.plan, judgement.gate))


def _adopt(candidate: BundleWriter, bundle: BundleWriter, gate: Gate) -> None:
    """Move the files of a candidate that is what was asked for."""
    known = Bundle.read(candidate.folder).manifest.files
    hashes = {}
    for path in candidate.folder.iterdir():
        if path.name not in (MANIFEST, REPORT, RANGES):
            hashes[path.name] = known[path.name]
            path.rename(bundle.folder / path.name)
    bundle.seal(replace(bundle.manifest(), gate=gate), hashes)


def _is_streamed(writer: BundleWriter, calibration: Calibration) -> bool:
    """Whether the float model is large, unless the user says what to do with it."""
    if calibration.streamed is not None:
        return calibration.streamed
    shapes = writer.checkpoint.model.tensors().values()
    return 4 * sum(math.prod(shape) for shape in shapes) > STREAMED_ABOVE


def _reference(
    writer: BundleWriter, folder: Path, streamed: bool, progress: Progress
) -> RecordableModel:
    """The float model that a quantized one is held against: exported to ``folder``, or
    ``streamed``.
    """
    if streamed:
        progress.tell("reading the checkpoint", 0.3)
        return stream_checkpoint(writer)
    folder.mkdir()
    checkpoint = writer.checkpoint
    reference = BundleWriter(
        checkpoint,
        RECIPES["fp32"],
        "onnxruntime",
        writer.cache_tokens,
        folder,
        writer.budget,
    )
    reference.run(progress.part(0.0, 1.0, "float reference: ").tell)
    return BundleModel(Bundle.open(folder))
