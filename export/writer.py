"""One bundle on its way: the files that a checkpoint becomes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vpt_edge.export import spec as graphs
from vpt_edge.export import tracing
from vpt_edge.export.quantization.matmuls import check_fused
from vpt_edge.export.report import report
from vpt_edge.export.verify import verify
from vpt_edge.runtime.bundle import (
    SCHEMA_VERSION,
    Bundle,
    Cache,
    Manifest,
    Text,
    sha256,
    write_manifest,
)

if TYPE_CHECKING:
    from vpt_edge.export.checkpoint import Checkpoint
    from vpt_edge.export.quantization.plan import Plan
    from vpt_edge.export.quantization.recipe import Recipe
    from vpt_edge.export.spec import Spec
    from vpt_edge.runtime.bundle import Gate

ROWS = 1024  # of a weight, that are smoothed at a time
EMBEDDINGS, EMBEDDING_SCALES, REPORT = "embeddings.bin", "embedding_scales.bin", "report.md"
RANGES = "ranges.json"

Progress = Callable[[str, float], None]


@dataclass
class BundleWriter:
    """What goes into a bundle, and the folder in which it grows."""

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
