"""A bundle: a folder with ``manifest.json``, the graphs, the embedding table and the tokenizer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vpt_edge.runtime import models, perception
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import Graph, Manifest, read_manifest
from vpt_edge.runtime.schema import EXPORT_AGAIN

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Embeddings:
    """``table`` (vocab_size, hidden_size), and a scale for each row if it is of integers."""

    table: np.ndarray[Any, Any]
    scales: np.ndarray[Any, Any] | None

    def rows(self, ids: Sequence[int] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The rows of ``ids``: a new array (len(ids), hidden_size) float32."""
        place = np.asarray(ids)
        rows = self.table[place].astype(np.float32)
        if self.scales is None:
            return rows
        return rows * self.scales[place, None]


class Model(Protocol):
    """What a pipeline needs of a model: a bundle, or whatever else keeps to it."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def tokenizer_file(self) -> Path: ...

    def embeddings(self) -> Embeddings: ...


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every file is there and, once it is checked, has the manifest's hash."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read and check a bundle.

        Raises BundleError for an unknown version or key, a missing or altered file.
        """
        bundle = cls.read(path)
        bundle.check()
        return bundle

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Bundle:
        """``open`` but for the hashes: whoever reads it calls ``check``, beside other work."""
        folder = Path(path)
        bundle = cls(folder, read_manifest(folder))
        models.open_tower(bundle.manifest)
        perception.open_perception(bundle.manifest)
        bundle._refuse(map(bundle._misplaced, bundle.manifest.files))
        return bundle

    def check(self) -> None:
        """Hash every file. Raises BundleError for those that are altered."""
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
            self._refuse(pool.map(self._altered, self.manifest.files))

    @contextlib.contextmanager
    def check_beside(self) -> Iterator[None]:
        """``check`` while the block opens the files.

        Where they are altered, that is the error, whatever else fails.
        """
        with ThreadPoolExecutor(1) as thread:
            check = thread.submit(self.check)
            try:
                yield
            except Exception:
                check.result()
                raise
            check.result()

    def _altered(self, name: str) -> str | None:
        if sha256(self.path / name) == self.manifest.files[name]:
            return None
        return f"{name} is altered (its sha256 differs)"

    def _misplaced(self, name: str) -> str | None:
        if Path(name).name != name:
            return f"{name} points out of the bundle"
        if not (self.path / name).is_file():
            return f"{name} is missing"
        return None

    def _refuse(self, findings: Iterable[str | None]) -> None:
        problems = [text for text in findings if text]
        unlisted = self._needed() - set(self.manifest.files)
        problems += [f"{name} has no hash in the manifest" for name in sorted(unlisted)]
        if problems:
            fix = f"copy the bundle again, or {EXPORT_AGAIN}"
            raise BundleError(f"{self.path} is damaged: {'; '.join(problems)}", fix)

    def _needed(self) -> set[str]:
        text = self.manifest.text
        needed = {TOKENIZER, text.embeddings}
        if text.embedding_scales is not None:
            needed.add(text.embedding_scales)
        needed.update(graph.file for graph in self.manifest.graphs.values())
        return needed

    def file(self, name: str) -> Path:
        return self.path / name

    @property
    def tokenizer_file(self) -> Path:
        return self.file(TOKENIZER)

    def graph(self, name: str) -> Graph:
        """The graph ``name``, such as vision_encoder or decoder."""
        return self.manifest.graphs[name]

    def embeddings(self) -> Embeddings:
        """The embedding table, mapped from disk."""
        text = self.manifest.text
        shape = (text.vocab_size, text.hidden_size)
        file = self.file(text.embeddings)
        table = np.memmap(file, dtype=text.embeddings_dtype, mode="r", shape=shape)
        scales = None
        if text.embedding_scales is not None:
            scales = np.fromfile(self.file(text.embedding_scales), np.float32)
        return Embeddings(table, scales)
