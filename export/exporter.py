"""Checkpoint -> bundle, as a list of named steps."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vpt_edge.export import spec as graphs
from vpt_edge.export import tracing
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.destination import check_destination
from vpt_edge.export.quantization.matmuls import check_fused
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.report import report
from vpt_edge.export.verify import try_bundle, verify
from vpt_edge.runtime.bundle import (
    EXPORT_AGAIN,
    MANIFEST,
    SCHEMA_VERSION,
    Bundle,
    Cache,
    ImageLimits,
    Manifest,
    Text,
    read_as,
    sha256,
    write_manifest,
)
from vpt_edge.runtime.errors import BundleError, CheckpointError, ExportError
from vpt_edge.runtime.files import replace_folder

if TYPE_CHECKING:
    from vpt_edge.export.quantization.calibrator import Calibration
    from vpt_edge.export.quantization.plan import Plan
    from vpt_edge.export.quantization.recipe import Recipe
    from vpt_edge.export.spec import Spec
    from vpt_edge.runtime.bundle import Gate

STREAMED_ABOVE = 2 << 30  # bytes of the float model
CACHE_TOKENS = 4096  # prompts of up to 2048 (the authors' cut-off), a second look and an answer
ROWS = 1024  # of a weight, that are smoothed at a time
KV_CACHES = ("float", "int8")
EMBEDDINGS, EMBEDDING_SCALES, REPORT = "embeddings.bin", "embedding_scales.bin", "report.md"
RANGES = "ranges.json"

Progress = Callable[[str, float], None]


@dataclass
class Export:
    """One export on its way: what goes in, and the folder beside the bundle in which it grows."""

    checkpoint: Checkpoint
    recipe: Recipe
    target: str
    cache_tokens: int
    folder: Path
    plan: Plan | None = None
    specs: dict[str, Spec] = field(init=False)

    def __post_init__(self) -> None:
        self.specs = graphs.specs(self.checkpoint, self.recipe, self.target, self.cache_tokens)

    @property
    def dtype(self) -> str:
        """What the graphs compute in."""
        return self.recipe.dtype[self.target]

    def loader(self, spec: Spec) -> Callable[[str], torch.Tensor]:
        """Gives a module's parameter by its name: read, brought into the graph's shape and dtype."""
        with torch.device("meta"):
            derived = spec.build(graphs.TARGETS[self.target].attention).derived
        assert isinstance(derived, dict)
        smoothing = self.plan.smoothing.get(spec.name) if self.plan else None

        def load(name: str) -> torch.Tensor:
            tensor = self.checkpoint.read(spec.tensor_name(name))
            tensor = derived[name](tensor) if name in derived else tensor
            dtype = getattr(torch, self.dtype)
            if smoothing is None or not smoothing.touches(name):
                return tensor.to(dtype)
            made = torch.empty(tensor.shape, dtype=dtype)
            for first in range(
                0, len(tensor), ROWS
            ):  # float64 has four times the bytes of what lies on disk
                rows = tensor[first : first + ROWS].double().numpy()
                made[first : first + ROWS] = torch.from_numpy(smoothing.scaled(name, rows, first))
            return made

        return load

    def write_tables(self) -> None:
        table = self.checkpoint.read(self.checkpoint.embeddings_tensor)
        if self.recipe.quantized:
            tracing.write_int8(table, self.folder / EMBEDDINGS, self.folder / EMBEDDING_SCALES)
        else:
            tracing.write_raw(table, getattr(torch, self.dtype), self.folder / EMBEDDINGS)
        shutil.copyfile(self.checkpoint.tokenizer_file, self.folder / "tokenizer.json")

    def write_graph(self, name: str) -> None:
        spec = self.specs[name]
        attention = graphs.TARGETS[self.target].attention
        model = tracing.trace(spec, attention, getattr(torch, self.dtype))
        tracing.attach_weights(model, self.loader(spec))
        if self.plan:
            self.plan.apply(model, name, self.target, self.dtype)
        head = "lm_head.weight.int8" if self.recipe.quantized else "lm_head.weight"
        stored = (
            {head: self.folder / EMBEDDINGS} if name == "decoder" and self.checkpoint.tied else {}
        )
        tracing.write(model, self.folder / spec.graph.file, stored)

    def manifest(self) -> Manifest:
        """The manifest but for parity and hashes."""
        c, cache = self.checkpoint, "int8" if self.plan and self.plan.cache_scales else self.dtype
        text = Text(
            hidden_size=c.text.hidden_size,
            layers=c.text.num_hidden_layers,
            kv_heads=c.text.num_key_value_heads,
            head_dim=c.text.head_dim,
            vocab_size=c.text.vocab_size,
            rope_theta=c.text.rope_theta,
            mrope_section=c.text.mrope_section,
            embeddings=EMBEDDINGS,
            embeddings_dtype="int8" if self.recipe.quantized else self.dtype,
            embedding_scales=EMBEDDING_SCALES if self.recipe.quantized else None,
        )
        return Manifest(
            schema_version=SCHEMA_VERSION,
            source=Path(c.source).resolve().name,
            kind=c.kind,
            precision=self.recipe.name,
            target=self.target,
            prompt_triggered=c.prompt_triggered,
            tokens=c.tokens,
            image=c.image,
            text=text,
            cache=Cache(graphs.TARGETS[self.target].layout, cache, self.cache_tokens),
            graphs={
                name: graphs.with_cache(spec.graph, cache) for name, spec in self.specs.items()
            },
            parity=(),
            gate=None,
            files={},
        )

    def verify(self, name: str, manifest: Manifest) -> Manifest:
        spec = self.specs[name]
        rows = verify(
            Bundle(self.folder, manifest),
            spec,
            self.dtype,
            self.recipe.tolerance,
            self.loader(spec),
        )
        return replace(manifest, parity=(*manifest.parity, *rows))

    def run(self, progress: Progress, gate: Gate | None = None) -> None:
        """Fill the folder."""
        manifest, stages = replace(self.manifest(), gate=gate), 2 * len(self.specs) + 3
        progress("writing embeddings and tokenizer", 1 / stages)
        self.write_tables()
        for index, name in enumerate(self.specs):
            progress(f"exporting {name}", (2 * index + 2) / stages)
            self.write_graph(name)
            progress(f"checking {name}", (2 * index + 3) / stages)
            if self.recipe.quantized:
                if self.target == "onnxruntime":
                    check_fused(self.folder / self.specs[name].graph.file)
            else:
                manifest = self.verify(name, manifest)
        progress("sealing the bundle", (stages - 1) / stages)
        self.seal(manifest)

    def seal(self, manifest: Manifest, hashes: Mapping[str, str] | None = None) -> None:
        """Report, ranges, hashes, manifest. ``hashes``: sha256 of files that have one already."""
        if self.plan:
            (self.folder / RANGES).write_text(
                json.dumps(self.plan.to_dict(), indent=1) + "\n", "utf-8"
            )
        (self.folder / REPORT).write_text(report(manifest, self.folder), "utf-8")
        files = dict(hashes or {})
        for path in self.folder.iterdir():
            if path.name not in files:
                files[path.name] = sha256(path)
        files = dict(sorted(files.items()))
        write_manifest(replace(manifest, files=files), self.folder)


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
    if precision not in RECIPES:
        raise ExportError(
            f"precision {precision!r} is unknown, expected one of: {', '.join(RECIPES)}"
        )
    if target not in graphs.TARGETS:
        raise ExportError(
            f"target {target!r} is unknown, expected one of: {', '.join(graphs.TARGETS)}"
        )
    if cache_tokens < 1:
        raise ExportError(f"cache_tokens is {cache_tokens}, expected 1 or more")
    path, recipe = Path(bundle), RECIPES[precision]
    if recipe.quantized != (calibration is not None):
        needs = "needs calibration data" if recipe.quantized else "takes no calibration data"
        raise ExportError(
            f"{precision} {needs}: vpt-export … --precision int8 --calibration-data DATA"
        )
    if calibration and calibration.kv_cache not in KV_CACHES:
        raise ExportError(
            f"kv_cache {calibration.kv_cache!r} is unknown, expected one of: {', '.join(KV_CACHES)}"
        )
    if calibration and calibration.kv_cache == "int8" and target != "onnxruntime":
        raise ExportError(
            f"graphs for {target} keep keys and values in float: leave out --kv-cache int8"
        )
    check_destination(path)
    with replace_folder(path) as folder:
        progress("reading the checkpoint", 0.0)
        checkpoint = Checkpoint.open(source)
        _check_values(checkpoint.image, source)
        job = Export(checkpoint, recipe, target, cache_tokens, folder)
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


def _check_values(record: Manifest | ImageLimits, source: str) -> None:
    """Say before the work what a reader of the manifest would refuse after it."""
    values = json.loads(json.dumps(asdict(record)))
    try:
        read_as(type(record), values, type(record).__name__)
    except BundleError as error:
        reason = str(error).removesuffix(f"; {EXPORT_AGAIN}")
        raise CheckpointError(
            f"{source} has a value that no bundle can hold ({reason}); correct its config files, or "
            "download the checkpoint again"
        ) from error


def _quantized(job: Export, calibration: Calibration, cache: Path, progress: Progress) -> None:
    """A float reference, a plan from the samples, and candidates until one passes the gate.

    The gate runs ONNX Runtime's dialect whatever the target: the numbers are the same.
    """
    from vpt_edge.export.quantization.calibrator import Planner

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


def _reference(job: Export, folder: Path, streamed: bool | None, progress: Progress) -> Bundle:
    """The float model that a quantized one is held against: exported to ``folder``, or streamed
    where it is large."""
    if streamed is None:
        numbers = sum(math.prod(shape) for shape in job.checkpoint.expected_tensors().values())
        streamed = 4 * numbers > STREAMED_ABOVE
    if streamed:
        from vpt_edge.export.streamed import streamed_bundle

        progress("reading the checkpoint", 0.1)
        return streamed_bundle(job)
    folder.mkdir()
    made = Export(job.checkpoint, RECIPES["fp32"], "onnxruntime", job.cache_tokens, folder)
    made.run(lambda stage, done: progress(f"float reference: {stage}", 0.3 * done))
    return Bundle.open(folder)
