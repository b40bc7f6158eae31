"""A bundle: a folder with ``manifest.json``, the graphs, the embedding table and the tokenizer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import types
import typing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vpt_edge.runtime.errors import BundleError

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
EXPORT_AGAIN = "export the checkpoint again: vpt-export CHECKPOINT -o BUNDLE"

T = TypeVar("T")


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph; a dimension is a number or the name of a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """One ONNX file; ``bounds`` gives the least, the usual and the largest size of each dynamic
    axis."""

    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    bounds: dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Tokens:
    """Token ids, found by token string at export.

    An alignment checkpoint has no triggers: ids of None.
    """

    image_pad: int
    reencode_pad: int | None
    action_start: int | None
    action: int | None
    end: tuple[int, ...]
    triggers: tuple[int, ...]

    @property
    def turn_end(self) -> int:
        """The id behind an assistant's turn in the template: ``<|im_end|>``."""
        return self.end[0]


@dataclass(frozen=True)
class ImageLimits:
    """``limit`` and ``reencode_limit``: longest side after the NEAREST shrink; pixels as Qwen2-VL
    counts them."""

    limit: int
    reencode_limit: int
    min_pixels: int
    max_pixels: int
    vision_head_dim: int


@dataclass(frozen=True)
class Text:
    """Geometry of the language model.

    ``embeddings`` is the raw table (vocab_size, hidden_size); an int8 table has a float32 scale for
    each row in ``embedding_scales``."""

    hidden_size: int
    layers: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    rope_theta: float
    mrope_section: tuple[int, int, int]
    embeddings: str
    embeddings_dtype: str
    embedding_scales: str | None


@dataclass(frozen=True)
class Cache:
    """``layout`` "shared": (1, kv_heads, capacity, head_dim), past and present are one buffer.

    ``layout`` "appended": (1, capacity, kv_heads * head_dim), the graph gives new keys and values
    alone. The scales of a ``dtype`` of int8 lie in the decoder's graph."""

    layout: str
    dtype: str
    capacity: int


@dataclass(frozen=True)
class Parity:
    """The largest difference of a graph from torch at one size, relative to the largest value, and
    its tolerance."""

    graph: str
    size: str
    output: str
    difference: float
    tolerance: float


@dataclass(frozen=True)
class Gate:
    """How a quantized bundle held against its float self on held-out samples; shares, and ``drop``
    in points.

    ``allowed``: the largest drop that the gate lets through; ``speed``: float's median time over
    ours, by stage, on the machine that exported; ``floats``: products that stayed in float, with
    the reason; ``notes``: what to know of the calibration data."""

    samples: int
    labelled: int
    accuracy: float | None
    float_accuracy: float | None
    answers_equal: float
    triggers_equal: float
    cells_equal: float
    cells_iou: float
    first_token_kl: float | None
    drop: float
    allowed: float
    held: bool
    speed: dict[str, float]
    floats: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything that a runtime must know of a bundle."""

    schema_version: int
    source: str
    kind: str
    precision: str
    target: str
    prompt_triggered: bool
    tokens: Tokens
    image: ImageLimits
    text: Text
    cache: Cache
    graphs: dict[str, Graph]
    parity: tuple[Parity, ...]
    gate: Gate | None
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every file is there and, once it is checked, has the hash that the manifest
    gives."""

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
        """``open`` but for the hashes: whoever reads it this way calls ``check``, beside what takes
        time too."""
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            found = (
                "the folder has no manifest.json" if folder.is_dir() else "there is no such folder"
            )
            raise BundleError(
                f"{folder} is no bundle: {found}; make one: vpt-export CHECKPOINT -o {folder}"
            )
        try:
            data = json.loads((folder / MANIFEST).read_text("utf-8"))
        except ValueError as error:
            raise BundleError(
                f"{folder / MANIFEST} is no JSON ({error}); {EXPORT_AGAIN}"
            ) from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{folder} has schema version {version}, this vpt-edge reads version {SCHEMA_VERSION}; "
                f"install the vpt-edge that wrote it, or {EXPORT_AGAIN}"
            )
        bundle = cls(folder, read_as(Manifest, data, MANIFEST))
        bundle._refuse([text for text in map(bundle._misplaced, bundle.manifest.files) if text])
        return bundle

    def check(self) -> None:
        """Hash every file. Raises BundleError for those that are altered."""

        def altered(item: tuple[str, str]) -> str | None:
            name, expected = item
            return (
                None
                if sha256(self.path / name) == expected
                else f"{name} is altered (its sha256 differs)"
            )

        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
            wrong = [text for text in pool.map(altered, self.manifest.files.items()) if text]
        self._refuse(wrong)

    def _misplaced(self, name: str) -> str | None:
        if Path(name).name != name:
            return f"{name} points out of the bundle"
        return None if (self.path / name).is_file() else f"{name} is missing"

    def _refuse(self, wrong: list[str]) -> None:
        wrong = wrong + [
            f"{name} has no hash in the manifest"
            for name in self._needed() - set(self.manifest.files)
        ]
        if wrong:
            raise BundleError(
                f"{self.path} is damaged: {'; '.join(wrong)}; copy the bundle again, or {EXPORT_AGAIN}"
            )

    def _needed(self) -> set[str]:
        text = self.manifest.text
        tables = {"tokenizer.json", text.embeddings, text.embedding_scales or text.embeddings}
        return tables | {graph.file for graph in self.manifest.graphs.values()}

    def file(self, name: str) -> Path:
        return self.path / name

    def graph(self, name: str) -> Graph:
        """The graph ``name``: vision_encoder, decoder, reencoder_features (not for clip) or
        reencoder_projector."""
        return self.manifest.graphs[name]

    def embeddings(self) -> Embeddings:
        """The embedding table, mapped from disk."""
        text = self.manifest.text
        shape = (text.vocab_size, text.hidden_size)
        table = np.memmap(
            self.file(text.embeddings), dtype=text.embeddings_dtype, mode="r", shape=shape
        )
        scales = (
            np.fromfile(self.file(text.embedding_scales), np.float32)
            if text.embedding_scales
            else None
        )
        return Embeddings(table, scales)


@dataclass(frozen=True)
class Embeddings:
    """``table`` (vocab_size, hidden_size), and a scale for each row if it is of integers."""

    table: np.ndarray[Any, Any]
    scales: np.ndarray[Any, Any] | None

    def rows(self, ids: Sequence[int] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The rows of ``ids``: a new array (len(ids), hidden_size) float32."""
        place = np.asarray(ids)
        rows = self.table[place].astype(np.float32)
        return rows if self.scales is None else rows * self.scales[place, None]


def write_manifest(manifest: Manifest, folder: Path) -> None:
    (folder / MANIFEST).write_text(
        json.dumps(dataclasses.asdict(manifest), indent=1) + "\n", "utf-8"
    )


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def read_as(cls: type[T], data: Any, where: str) -> T:
    """``data`` from JSON as the dataclass ``cls``.

    Unknown keys, missing keys and other types are errors.
    """
    if not isinstance(data, dict):
        raise BundleError(f"{where} is {type(data).__name__}, expected an object; {EXPORT_AGAIN}")
    hints = typing.get_type_hints(cls)
    unknown, missing = sorted(set(data) - set(hints)), sorted(set(hints) - set(data))
    if unknown or missing:
        found = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [
            f"missing {', '.join(missing)}"
        ] * bool(missing)
        raise BundleError(
            f"{where} has other keys than expected: {'; '.join(found)}; {EXPORT_AGAIN}"
        )
    return cls(**{key: _convert(hint, data[key], f"{where}: {key}") for key, hint in hints.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return read_as(typing.cast("type[Any]", hint), value, where)
    if (
        value is not None
        and parts
        and dataclasses.is_dataclass(parts[0])
        and origin is types.UnionType
    ):
        return read_as(typing.cast("type[Any]", parts[0]), value, where)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(parts[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        each = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(each) == len(value):
            return tuple(
                _convert(part, item, where) for part, item in zip(each, value, strict=True)
            )
    options = parts if origin in (typing.Union, types.UnionType) else (hint,)
    if (
        type(value) in options
        or (value is None and types.NoneType in options)
        or (type(value) is int and float in options)
    ):
        return value
    raise BundleError(f"{where} is {value!r}, expected {hint}; {EXPORT_AGAIN}")
