"""Checkpoint -> bundle, as a list of named steps."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vpt_edge.export import graphs, onnx_writer
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.precision import RECIPES
from vpt_edge.export.report import report
from vpt_edge.export.verify import verify
from vpt_edge.runtime.bundle import MANIFEST, SCHEMA_VERSION, Bundle, Cache, Manifest, Text, sha256, write_manifest
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from vpt_edge.export.graphs import Spec
    from vpt_edge.export.precision import Recipe

CACHE_TOKENS = 4096  # prompts of up to 2048 (the authors' cut-off), a second look and an answer
EMBEDDINGS = "embeddings.bin"

Progress = Callable[[str, float], None]


@dataclass
class Export:
    """One export on its way: what goes in, and the folder beside the bundle in which it grows."""

    checkpoint: Checkpoint
    recipe: Recipe
    target: str
    cache_tokens: int
    folder: Path
    specs: dict[str, Spec] = field(init=False)

    def __post_init__(self) -> None:
        self.specs = graphs.specs(self.checkpoint, self.recipe, self.target, self.cache_tokens)

    def loader(self, spec: Spec) -> Callable[[str], torch.Tensor]:
        """Gives a module's parameter by its name: read, brought into the graph's shape and dtype."""
        with torch.device("meta"):
            derived = spec.build(graphs.TARGETS[self.target].attention).derived
        assert isinstance(derived, dict)

        def load(name: str) -> torch.Tensor:
            tensor = self.checkpoint.read(spec.tensor_name(name))
            tensor = derived[name](tensor) if name in derived else tensor
            return tensor.to(getattr(torch, self.recipe.dtype))

        return load

    def write_tables(self) -> None:
        table = self.checkpoint.read(self.checkpoint.embeddings_tensor)
        onnx_writer.write_raw(table, getattr(torch, self.recipe.dtype), self.folder / EMBEDDINGS)
        shutil.copyfile(self.checkpoint.tokenizer_file, self.folder / "tokenizer.json")

    def write_graph(self, name: str) -> None:
        spec = self.specs[name]
        attention = graphs.TARGETS[self.target].attention
        model = onnx_writer.trace(spec, attention, getattr(torch, self.recipe.dtype))
        onnx_writer.attach_weights(model, self.loader(spec))
        tied = name == "decoder" and self.checkpoint.tied
        stored = {"lm_head.weight": self.folder / EMBEDDINGS} if tied else {}
        onnx_writer.write(model, self.folder / spec.graph.file, stored)

    def manifest(self) -> Manifest:
        """The manifest but for parity and hashes."""
        c = self.checkpoint
        text = Text(
            hidden_size=c.text.hidden_size,
            layers=c.text.num_hidden_layers,
            kv_heads=c.text.num_key_value_heads,
            head_dim=c.text.head_dim,
            vocab_size=c.text.vocab_size,
            rope_theta=c.text.rope_theta,
            mrope_section=c.text.mrope_section,
            embeddings=EMBEDDINGS,
            embeddings_dtype=self.recipe.dtype,
        )
        return Manifest(
            schema_version=SCHEMA_VERSION,
            source=c.path.name if c.path.name else c.source,
            kind=c.kind,
            precision=self.recipe.name,
            target=self.target,
            prompt_triggered=c.prompt_triggered,
            tokens=c.tokens,
            image=c.image,
            text=text,
            cache=Cache(graphs.TARGETS[self.target].layout, self.recipe.dtype, self.cache_tokens),
            graphs={name: spec.graph for name, spec in self.specs.items()},
            parity=(),
            files={},
        )

    def verify(self, name: str, manifest: Manifest) -> Manifest:
        spec = self.specs[name]
        rows = verify(Bundle(self.folder, manifest), name, spec, self.recipe, self.loader(spec))
        return replace(manifest, parity=(*manifest.parity, *rows))

    def seal(self, manifest: Manifest) -> None:
        """Report, hashes, manifest."""
        (self.folder / "report.md").write_text(report(manifest, self.folder), "utf-8")
        files = {path.name: sha256(path) for path in sorted(self.folder.iterdir())}
        write_manifest(replace(manifest, files=files), self.folder)


def export(
    source: str,
    bundle: str | os.PathLike[str],
    *,
    precision: str,
    target: str = "onnxruntime",
    cache_tokens: int = CACHE_TOKENS,
    progress: Progress = lambda stage, done: None,
) -> Bundle:
    """Write the checkpoint ``source`` (a folder or a Hub id) as the bundle folder ``bundle``.

    The bundle appears when it is complete; an older bundle in its place is replaced then. ``progress`` is told each
    stage and the share that is done. Raises CheckpointError and ExportError.
    """
    if precision not in RECIPES:
        raise ExportError(f"precision {precision!r} is unknown, expected one of: {', '.join(RECIPES)}")
    if target not in graphs.TARGETS:
        raise ExportError(f"target {target!r} is unknown, expected one of: {', '.join(graphs.TARGETS)}")
    if cache_tokens < 1:
        raise ExportError(f"cache_tokens is {cache_tokens}, expected 1 or more")
    path = Path(bundle)
    if path.exists() and not (path / MANIFEST).exists():
        raise ExportError(f"{path} exists and is no bundle; choose another folder, or remove it")
    progress("reading the checkpoint", 0.0)
    checkpoint = Checkpoint.open(source)
    with _beside(path) as folder:
        job = Export(checkpoint, RECIPES[precision], target, cache_tokens, folder)
        manifest = job.manifest()
        stages = 2 * len(job.specs) + 2
        progress("writing embeddings and tokenizer", 1 / (stages + 1))
        job.write_tables()
        for index, name in enumerate(job.specs):
            progress(f"exporting {name}", (2 * index + 2) / (stages + 1))
            job.write_graph(name)
            progress(f"comparing {name} with torch", (2 * index + 3) / (stages + 1))
            manifest = job.verify(name, manifest)
        progress("sealing the bundle", stages / (stages + 1))
        job.seal(manifest)
    progress("done", 1.0)
    return Bundle.open(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that takes its place at the end, or is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield folder
        folder.chmod(0o755)
        if path.exists():
            path.rename(old := Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)) / "old")
            folder.rename(path)
            shutil.rmtree(old.parent)
        else:
            folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
