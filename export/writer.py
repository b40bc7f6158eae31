"""One bundle on its way: the files that a checkpoint becomes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vpt_edge.export import weights
from vpt_edge.export.attention import TARGETS
from vpt_edge.export.probe import probe
from vpt_edge.export.quantization.onnxruntime import check_fused
from vpt_edge.export.report import report
from vpt_edge.export.spec import with_cache
from vpt_edge.export.tracing import trace
from vpt_edge.export.verify import verify
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import (
    SCHEMA_VERSION,
    Budget,
    CacheConfig,
    Manifest,
    TextConfig,
    write_manifest,
)
from vpt_edge.runtime.names import readable

if TYPE_CHECKING:
    import onnx_ir as ir

    from vpt_edge.calibration.smoothing import Smoothing
    from vpt_edge.export.checkpoint import Checkpoint
    from vpt_edge.export.progress import Listener
    from vpt_edge.export.quantization.plan import QuantizationPlan
    from vpt_edge.export.quantization.recipe import Recipe
    from vpt_edge.export.spec import Spec
    from vpt_edge.runtime.manifest import Gate

SMOOTHED_ROWS = 1024  # of a weight, at a time: float64 has four times the bytes of what is on disk
EMBEDDINGS = "embeddings.bin"
EMBEDDING_SCALES = "embedding_scales.bin"
TOKENIZER = "tokenizer.json"
REPORT = "report.md"
RANGES = "ranges.json"


@dataclass
class BundleWriter:
    """What goes into a bundle, and the folder in which it grows.

    ``target``: a key of ``TARGETS``; ``cache_tokens``: the cache's capacity; ``plan``: what a
    quantized recipe does to each weight; ``budget``: the manifest's; ``specs``: the graphs by name.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    target: str
    cache_tokens: int
    folder: Path
    budget: Budget = field(default_factory=Budget)
    plan: QuantizationPlan | None = None
    specs: dict[str, Spec] = field(init=False)

    def __post_init__(self) -> None:
        self.specs = self.checkpoint.specs(self.target, self.dtype, self.cache_tokens)

    @property
    def dtype(self) -> str:
        """What the graphs compute in."""
        return self.recipe.dtype[self.target]

    @property
    def cache_dtype(self) -> str:
        """What keys and values are kept in."""
        return "int8" if self.plan and self.plan.cache_scales else self.dtype

    def loader(self, spec: Spec) -> Callable[[str], torch.Tensor]:
        """Gives a module's parameter by its name, in the graph's shape and dtype."""
        dtype = getattr(torch, self.dtype)
        smoothing = self.plan.smoothing.get(spec.name) if self.plan else None

        def load(name: str) -> torch.Tensor:
            tensor = spec.read(name, self.checkpoint.read)
            if smoothing is None or not smoothing.touches(name):
                return weights.cast(tensor, dtype, spec.tensor_name(name))
            smoothed = _smooth(tensor, name, smoothing, dtype)
            weights.check_reach(smoothed, tensor, spec.tensor_name(name))
            return smoothed

        return load

    def write_tables(self) -> None:
        """Write the embedding table and the tokenizer."""
        name = self.checkpoint.embeddings_tensor
        table = self.checkpoint.read(name)
        if self.recipe.quantized:
            weights.write_int8(table, self.folder / EMBEDDINGS, self.folder / EMBEDDING_SCALES)
        else:
            weights.write_raw(table, getattr(torch, self.dtype), self.folder / EMBEDDINGS, name)
        shutil.copyfile(self.checkpoint.tokenizer_file, self.folder / TOKENIZER)

    def write_graph(self, name: str) -> None:
        """Write one graph and its weights."""
        stored = {}
        if name == "decoder" and self.checkpoint.tied:
            head = "lm_head.weight.int8" if self.recipe.quantized else "lm_head.weight"
            stored[head] = self.folder / EMBEDDINGS
        path = self.folder / self.specs[name].graph.file
        weights.write_model(self.build_graph(name), path, stored)

    def build_graph(self, name: str) -> ir.Model:
        """One graph as it is written, whose weights are computed when they are asked for."""
        spec = self.specs[name]
        model = trace(spec, TARGETS[self.target].attention, getattr(torch, self.dtype))
        weights.attach_weights(model, self.loader(spec))
        if self.plan:
            self.plan.apply(model, name, self.target, self.dtype)
        return model

    def manifest(self) -> Manifest:
        """The manifest but for parity and hashes."""
        checkpoint = self.checkpoint
        layout = TARGETS[self.target].layout
        graphs = {}
        for name, spec in self.specs.items():
            graphs[name] = with_cache(spec.graph, self.cache_dtype)
        return Manifest(
            schema_version=SCHEMA_VERSION,
            source=readable(Path(checkpoint.source).resolve().name),
            precision=self.recipe.name,
            target=self.target,
            model=checkpoint.model.tower.block(),
            perception=checkpoint.perception.block,
            tokens=checkpoint.perception.tokens,
            image=checkpoint.image,
            text=self._text(),
            cache=CacheConfig(layout, self.cache_dtype, self.cache_tokens),
            graphs=graphs,
            parity=(),
            gate=None,
            files={},
            budget=self.budget,
        )

    def _text(self) -> TextConfig:
        """The manifest's block on the language model."""
        text = self.checkpoint.text
        dtype = self.dtype
        scales = None
        if self.recipe.quantized:
            dtype = "int8"
            scales = EMBEDDING_SCALES
        return TextConfig(
            hidden_size=text.hidden_size,
            layers=text.num_hidden_layers,
            kv_heads=text.num_key_value_heads,
            head_dim=text.head_dim,
            vocab_size=text.vocab_size,
            rope_theta=text.rope_theta,
            mrope_section=text.mrope_section,
            embeddings=EMBEDDINGS,
            embeddings_dtype=dtype,
            embedding_scales=scales,
        )

    def check(self, name: str, manifest: Manifest) -> Manifest:
        """``manifest`` with the parity of a float graph; a quantized one must compute as written.

        Raises ExportError.
        """
        spec = self.specs[name]
        if self.recipe.quantized:
            if self.target == "onnxruntime":
                check_fused(self.folder / spec.graph.file)
            return manifest
        bundle = Bundle(self.folder, manifest)
        rows = verify(bundle, spec, self.dtype, self.recipe.tolerance, self.loader(spec))
        return replace(manifest, parity=(*manifest.parity, *rows))

    def run(self, progress: Listener, gate: Gate | None = None) -> None:
        """Fill the folder; ``progress`` is told each stage and the share that is done."""
        manifest = replace(self.manifest(), gate=gate)
        stages = 2 * len(self.specs) + 4
        progress("writing embeddings and tokenizer", 1 / stages)
        self.write_tables()
        if self.dtype == "float16":
            progress("asking a question in float16", 2 / stages)
            probe(Bundle(self.folder, manifest), self.specs, self.loader)
        for index, name in enumerate(self.specs):
            progress(f"exporting {name}", (2 * index + 3) / stages)
            self.write_graph(name)
            progress(f"checking {name}", (2 * index + 4) / stages)
            manifest = self.check(name, manifest)
        progress("sealing the bundle", (stages - 1) / stages)
        self.seal(manifest)

    def seal(self, manifest: Manifest, hashes: Mapping[str, str] | None = None) -> None:
        """Report, ranges, hashes, manifest. ``hashes``: sha256 of files that have one already."""
        if self.plan:
            ranges = json.dumps(self.plan.to_dict(), indent=1)
            (self.folder / RANGES).write_text(f"{ranges}\n", "utf-8")
        text = report(manifest, self.folder, self.checkpoint.notes)
        (self.folder / REPORT).write_text(text, "utf-8", "replace")
        files = dict(hashes or {})
        for path in self.folder.iterdir():
            if path.name not in files:
                files[path.name] = sha256(path)
        write_manifest(replace(manifest, files=dict(sorted(files.items()))), self.folder)


def _smooth(
    tensor: torch.Tensor, name: str, smoothing: Smoothing, dtype: torch.dtype
) -> torch.Tensor:
    """The parameter ``name`` as ``smoothing`` changes it, a few rows at a time."""
    smoothed = torch.empty(tensor.shape, dtype=dtype)
    for first in range(0, len(tensor), SMOOTHED_ROWS):
        part = slice(first, first + SMOOTHED_ROWS)
        rows = smoothing.apply(name, tensor[part].double().numpy(), first)
        smoothed[part] = torch.from_numpy(rows)
    return smoothed
