"""The manifest of a bundle: everything that a runtime must know of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.schema import EXPORT_AGAIN, read_as

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph; a dimension is a number or the name of a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """One ONNX file; ``bounds``: the least, usual and largest size of each dynamic axis."""

    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    bounds: dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Tokens:
    """Ids that every model has, found by token string at export.

    ``image_pad`` stands for a visual token; ``end`` ends a turn, first of all ``<|im_end|>``.
    """

    image_pad: int
    end: tuple[int, ...]


@dataclass(frozen=True)
class ImageConfig:
    """How many pixels of a picture or crop the model is shown.

    ``longest_side`` after the first shrink (PROTOCOL 4), then ``min_pixels`` to ``max_pixels``.
    """

    longest_side: int
    min_pixels: int
    max_pixels: int


@dataclass(frozen=True)
class TextConfig:
    """Geometry of the language model.

    ``embeddings`` is the raw table (vocab_size, hidden_size); an int8 table has a float32 scale for
    each row in ``embedding_scales``.
    """

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
class CacheConfig:
    """The key-value cache.

    ``layout`` "shared": (1, kv_heads, capacity, head_dim), past and present are one buffer.
    ``layout`` "appended": (1, capacity, kv_heads * head_dim), the graph gives new keys and values
    alone. The scales of a ``dtype`` of int8 lie in the decoder's graph.
    """

    layout: str
    dtype: str
    capacity: int


@dataclass(frozen=True)
class Parity:
    """The largest difference of a graph from torch at one size, and its tolerance.

    Both are relative to the largest value of the output.
    """

    graph: str
    size: str
    output: str
    difference: float
    tolerance: float


@dataclass(frozen=True)
class Gate:
    """How a quantized bundle held against its float self on held-out samples.

    Shares of 1, and ``drop`` in points. ``allowed``: the largest drop that the gate lets through;
    ``speed``: float's median time over ours, by stage, on the machine that exported; ``floats``:
    matmuls that stayed in float, with the reason; ``notes``: what to know of the calibration data.
    """

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
    """Everything that a runtime must know of a bundle.

    ``model`` and ``perception`` are blocks of the tower (``runtime.models``) and of the way of
    looking again (``runtime.perception``) that their ``name`` says; each reads its own.
    """

    schema_version: int
    source: str
    precision: str
    target: str
    model: dict[str, Any]
    perception: dict[str, Any]
    tokens: Tokens
    image: ImageConfig
    text: TextConfig
    cache: CacheConfig
    graphs: dict[str, Graph]
    parity: tuple[Parity, ...]
    gate: Gate | None
    files: dict[str, str]

    @property
    def kind(self) -> str:
        """What the perception says of the checkpoint, such as "clip"; else its name."""
        kind = self.perception.get("kind", self.perception.get("name"))
        return str(kind)


def read_manifest(folder: Path) -> Manifest:
    """The manifest in ``folder``. Raises BundleError where this version reads none."""
    path = folder / MANIFEST
    if not path.is_file():
        problem = "there is no such folder"
        if folder.is_dir():
            problem = "the folder has no manifest.json"
        fix = f"make one: vpt-export CHECKPOINT -o {folder}"
        raise BundleError(f"{folder} is not a bundle: {problem}", fix)
    try:
        data = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error})", EXPORT_AGAIN) from error
    version = None
    if isinstance(data, dict):
        version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{folder} has schema version {version}, this vpt-edge reads version {SCHEMA_VERSION}",
            f"install the vpt-edge that wrote it, or {EXPORT_AGAIN}",
        )
    return read_as(Manifest, data, MANIFEST)


def read_block(cls: type[Any], block: dict[str, Any], where: str) -> Any:
    """The block ``model`` or ``perception``, but for its name, as the dataclass ``cls``."""
    values = {key: value for key, value in block.items() if key != "name"}
    return read_as(cls, values, f"{MANIFEST}: {where}")


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``manifest.json`` into ``folder``."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")
