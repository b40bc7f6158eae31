"""A bundle: a folder with ``manifest.json``, the graphs, the embedding table and the tokenizer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vpt_edge.runtime import models, perception
from vpt_edge.runtime.embeddings import Embeddings
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.external_data import read_external_data
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.interface import (
    check_manifest,
    check_reencoder,
    scales_size,
    table_size,
)
from vpt_edge.runtime.manifest import MANIFEST, Graph, Manifest, read_manifest
from vpt_edge.runtime.pin import Pin
from vpt_edge.runtime.schema import EXPORT_AGAIN, brief, label

if TYPE_CHECKING:
    from vpt_edge.runtime.snapshot import Snapshot

TOKENIZER = "tokenizer.json"


class Model(Protocol):
    """What a pipeline needs of a model: a bundle, or whatever else keeps to it."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def tokenizer_file(self) -> Path: ...

    def embeddings(self) -> Embeddings: ...


@contextlib.contextmanager
def open_model(model: str | os.PathLike[str] | Model) -> Iterator[Model]:
    """``model`` for a block that maps its files, or the bundle in a folder, hashed meanwhile.

    Raises BundleError behind the block for a bundle that is altered or was replaced.
    """
    if isinstance(model, str | os.PathLike):
        with Bundle.read(model).hold() as bundle, bundle.check_beside():
            yield bundle
    elif isinstance(model, Bundle):
        with model.hold() as bundle:
            yield bundle
    elif hasattr(model, "manifest"):
        yield model
    else:
        problem = f"{brief(model)} is not a bundle, expected its folder or an opened one"
        raise BundleError(problem, "give the folder that vpt-export wrote")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every file is there and, once it is checked, has the manifest's hash.

    ``snapshot``: what stood in the folder when it was read; ``pin``: what holds the folder, so that
    its files are those.
    """

    path: Path
    manifest: Manifest
    snapshot: Snapshot | None = field(default=None, compare=False, repr=False)
    pin: Pin | None = field(default=None, compare=False, repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read and check a bundle.

        Raises BundleError for an unknown version or key, a missing or altered file, weights that
        lie outside of the bundle, and a folder that is replaced meanwhile.
        """
        bundle = cls.read(path)
        with bundle.hold() as held:
            held.check()
        return bundle

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Bundle:
        """``open`` but for the hashes: whoever reads it calls ``check``, beside other work."""
        if not isinstance(path, str | os.PathLike):
            problem = f"{brief(path)} is not a bundle, expected its folder"
            raise BundleError(problem, "give the folder that vpt-export wrote")
        folder = Path(path)
        with Pin(folder) as pin:
            before = pin.take_snapshot([MANIFEST])
            try:
                bundle = cls._read(folder, pin)
            except BundleError:
                pin.refuse(pin.find_change(before))
                raise
            except OSError as error:  # a name too long, or a file that is gone meanwhile
                pin.refuse(pin.find_change(before))
                problem = f"{brief(str(folder))} cannot be read ({error.strerror})"
                raise BundleError(problem, "give the folder that vpt-export wrote") from error
            bundle._check_unchanged(before)
        return bundle

    @classmethod
    def _read(cls, folder: Path, pin: Pin) -> Bundle:
        manifest = read_manifest(folder, pin.place)
        check_manifest(manifest)
        models.open_tower(manifest)
        way = perception.open_perception(manifest)
        check_reencoder(manifest, way.encoder is not None, way.action is not None)
        snapshot = pin.take_snapshot([MANIFEST, *manifest.files])
        bundle = cls(folder, manifest, snapshot, pin)
        bundle._refuse(map(bundle._missing, manifest.files))
        bundle._refuse([*bundle._sizes(), *map(bundle._foreign_weights, manifest.graphs)])
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

    @contextlib.contextmanager
    def hold(self) -> Iterator[Bundle]:
        """This bundle for a block that opens its files: they are those that were read, wherever
        the folder is moved meanwhile.

        Raises BundleError where the bundle was replaced, before the block or in it.
        """
        if self.snapshot is None:
            yield self
            return
        with Pin(self.path) as pin:
            before = pin.take_snapshot(self.snapshot.files)
            bundle = replace(self, snapshot=before, pin=pin)
            change = self.snapshot.compare(before)
            if change and not self._stands_in(pin):
                pin.refuse(change)
            try:
                yield bundle
            except Exception:
                bundle._check_unchanged(before)
                if pin.moved:  # some libraries ask for the folder's name and look for it again
                    pin.refuse("the folder was moved")
                raise
            bundle._check_unchanged(before)

    def _check_unchanged(self, before: Snapshot) -> None:
        """Raise BundleError where files of the held folder were exchanged, be it there and back,
        or another bundle stands in its place.

        What has the same content there is the same.
        """
        assert self.pin is not None
        self.pin.refuse(self.pin.find_exchange(before))
        change = self.pin.find_change(before)
        if change:
            with Pin(self.path) as pin:
                if not self._stands_in(pin):
                    pin.refuse(change)

    def _stands_in(self, pin: Pin) -> bool:
        """Whether manifest and files in the folder that ``pin`` holds are those of this bundle."""
        try:
            bundle = Bundle._read(self.path, pin)
            bundle.check()
        except (BundleError, OSError):
            return False
        return bundle.manifest == self.manifest

    def _altered(self, name: str) -> str | None:
        try:
            digest = sha256(self.file(name))
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if digest == self.manifest.files[name]:
            return None
        return f"{name} is altered (its sha256 differs)"

    def _missing(self, name: str) -> str | None:
        file = self.file(name)
        if file.is_file():
            return None
        if file.is_symlink():
            return f"{name} is a symlink to a file that is missing"
        return f"{name} is missing"

    def _sizes(self) -> Iterator[str | None]:
        """What is wrong with the sizes of the embedding table and its scales."""
        text = self.manifest.text
        sizes = {text.embeddings: table_size(text)}
        if text.embedding_scales is not None:
            sizes[text.embedding_scales] = scales_size(text)
        for name, expected in sizes.items():
            size = self._size(name)
            if size != expected:
                yield self._altered(name) or f"{name} has {size} bytes, expected {expected}"

    def _foreign_weights(self, name: str) -> str | None:
        """What is wrong with the places outside of the graph ``name`` where its weights lie."""
        file = self.manifest.graphs[name].file
        try:
            places = read_external_data(self.file(file))
        except (OSError, ValueError) as error:
            return self._altered(file) or f"{file} is not a well-formed ONNX file ({error})"
        for place in places:
            if place.location not in self.manifest.files:
                location = label(place.location)
                return f"{file} takes weights from {location}, which is not one of its files"
            size = self._size(place.location)
            if place.offset + place.length > size:
                end = place.offset + place.length
                found = f"{place.location} has {size} bytes, {file} takes weights up to {end}"
                return self._altered(place.location) or found
        return None

    def _size(self, name: str) -> int:
        return self.file(name).stat().st_size

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

    @property
    def is_scattered(self) -> bool:
        """Whether files are symlinks into several folders, as DVC and git-annex lay them: from 1.24
        on ONNX Runtime takes no weights from another folder than the graph's own.
        """
        folders = {self.file(name).resolve().parent for name in self.manifest.files}
        return len(folders) > 1

    def file(self, name: str) -> Path:
        """The way to the file ``name``."""
        folder = self.path
        if self.pin is not None:
            folder = self.pin.place
        return folder / name

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
