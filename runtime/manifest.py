"""The manifest of a bundle: everything that a runtime must know of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.fields import (
    Bound,
    Count,
    DType,
    FileName,
    GraphFile,
    Name,
    Number,
    Pixels,
    Section,
    Sha256,
    Side,
    TokenId,
)
from vpt_edge.runtime.schema import (
    EXPORT_AGAIN,
    Choice,
    Range,
    brief,
    label,
    parse_json,
    read_as,
)
from vpt_edge.runtime.tuned import Tuned

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
SEAL = "sha256"  # the key of the manifest's own hash
MOST_BYTES = 1 << 26  # of a manifest


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph; a dimension is a number or the name of a dynamic axis."""

    name: Name
    dtype: DType
    shape: tuple[Side, ...]


@dataclass(frozen=True)
class Graph:
    """One ONNX file; ``bounds``: the least, usual and largest size of each dynamic axis."""

    file: GraphFile
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    bounds: dict[Name, tuple[Bound, Bound, Bound]]


@dataclass(frozen=True)
class Tokens:
    """Ids that every model has, found by token string at export.

    ``image_pad`` stands for a visual token; ``end`` ends a turn, first of all ``<|im_end|>``.
    """

    image_pad: TokenId
    end: tuple[TokenId, ...]


@dataclass(frozen=True)
class ImageConfig:
    """How many pixels of a picture or crop the model is shown.

    ``longest_side`` after the first shrink of VPT (PROTOCOL 4), None where there is none; then
    ``min_pixels`` to ``max_pixels``.
    """

    longest_side: Pixels | None
    min_pixels: Pixels
    max_pixels: Pixels


@dataclass(frozen=True)
class TextConfig:
    """Geometry of the language model.

    ``embeddings`` is the raw table (vocab_size, hidden_size); an int8 table has a float32 scale for
    each row in ``embedding_scales``.
    """

    hidden_size: Count
    layers: Count
    kv_heads: Count
    head_dim: Count
    vocab_size: Count
    rope_theta: Annotated[float, Range(1, 1e12)]
    mrope_section: tuple[Section, Section, Section]
    embeddings: FileName
    embeddings_dtype: Annotated[str, Choice(("float32", "float16", "int8"))]
    embedding_scales: FileName | None


@dataclass(frozen=True)
class CacheConfig:
    """The key-value cache.

    ``layout`` "shared": (1, kv_heads, capacity, head_dim), past and present are one buffer.
    ``layout`` "appended": (1, capacity, kv_heads * head_dim), the graph gives new keys and values
    alone. The scales of a ``dtype`` of int8 lie in the decoder's graph.
    """

    layout: Annotated[str, Choice(("shared", "appended"))]
    dtype: Annotated[str, Choice(("float32", "float16", "int8"))]
    capacity: Count


@dataclass(frozen=True)
class Parity:
    """The largest difference of a graph from torch at one size, and its tolerance.

    Both are relative to the largest value of the output.
    """

    graph: str
    size: str
    output: str
    difference: Number
    tolerance: Number


@dataclass(frozen=True)
class Gate:
    """How a quantized bundle held against its float self on held-out samples.

    Shares of 1, and ``drop`` in points. ``allowed``: the largest drop that the gate lets through;
    ``speed``: float's median time over ours, by stage, on the machine that exported; ``floats``:
    matmuls that stayed in float, with the reason; ``notes``: what to know of the calibration data.
    """

    samples: Bound
    labelled: Bound
    accuracy: Number | None
    float_accuracy: Number | None
    answers_equal: Number
    triggers_equal: Number
    cells_equal: Number
    cells_iou: Number
    first_token_kl: Number | None
    drop: Number
    allowed: Number
    held: bool
    speed: dict[str, Number]
    floats: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """What a question about a picture may cost where its options do not say otherwise.

    None is the bundle's own way: pictures in as many pixels as ``ImageConfig`` says, every visual
    token of them, and a token a step. ``first_max_pixels``: of each picture as it is first shown;
    ``look_max_pixels``: of each look; ``first_token_share``: of a first view's visual tokens that
    are kept; ``draft_tokens``: the most that are looked up and verified in one pass. ``tuned``: why
    the first three are what they are, where vpt-tune has set them.
    """

    first_max_pixels: Pixels | None = None
    look_max_pixels: Pixels | None = None
    first_token_share: Annotated[float, Range(1e-6, 1)] | None = None
    draft_tokens: Annotated[int, Range(0, 1 << 10)] | None = None
    tuned: Tuned | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything that a runtime must know of a bundle.

    ``model`` and ``perception`` are blocks of the tower (``runtime.models``) and of the way of
    looking again (``runtime.perception``) that their ``name`` says; each reads its own. ``budget``
    is in the file only where it says something.
    """

    schema_version: int
    source: str
    precision: Annotated[str, Choice(("fp32", "fp16", "int8", "int4"))]
    target: Annotated[str, Choice(("onnxruntime", "tensorrt"))]
    model: dict[str, Any]
    perception: dict[str, Any]
    tokens: Tokens
    image: ImageConfig
    text: TextConfig
    cache: CacheConfig
    graphs: dict[Name, Graph]
    parity: tuple[Parity, ...]
    gate: Gate | None
    files: dict[FileName, Sha256]
    budget: Budget = Budget()

    @property
    def kind(self) -> str:
        """What the perception says of the checkpoint, such as "clip"; else its name."""
        kind = self.perception.get("kind", self.perception.get("name"))
        return str(kind)


def read_manifest(folder: Path, place: Path | None = None) -> Manifest:
    """The manifest in ``folder``, to which ``place`` is another way.

    Raises BundleError where this version reads none.
    """
    path = (place or folder) / MANIFEST
    if not path.is_file():
        problem = "there is no such folder"
        if path.parent.is_dir():
            problem = "the folder has no manifest.json"
        fix = f"make one: vpt-export CHECKPOINT -o {folder}"
        raise BundleError(f"{folder} is not a bundle: {problem}", fix)
    data = _read_object(path, folder / MANIFEST)
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        shown = label(version) if isinstance(version, str) else brief(version)
        raise BundleError(
            f"{folder} has schema version {shown}, this vpt-edge reads version {SCHEMA_VERSION}",
            f"install the vpt-edge that wrote it, or {EXPORT_AGAIN}",
        )
    _check_seal(data, folder / MANIFEST)
    del data[SEAL]
    return read_as(Manifest, data, MANIFEST)


def _read_object(path: Path, name: Path) -> dict[str, Any]:
    """The JSON object in the file ``path``; errors call it ``name``."""
    if path.stat().st_size > MOST_BYTES:
        raise BundleError(f"{name} has more than {MOST_BYTES >> 20} MiB", EXPORT_AGAIN)
    try:
        data = parse_json(path.read_bytes())
    except ValueError as error:
        raise BundleError(f"{name} is not JSON ({error})", EXPORT_AGAIN) from error
    if not isinstance(data, dict):
        raise BundleError(f"{name} holds {type(data).__name__}, expected an object", EXPORT_AGAIN)
    return data


def _check_seal(data: Mapping[str, Any], name: Path) -> None:
    if SEAL not in data:
        raise BundleError(f"{name} lacks its own sha256", EXPORT_AGAIN)
    try:
        own = seal(data)
    except RecursionError as error:
        raise BundleError(f"{name} is nested too deeply", EXPORT_AGAIN) from error
    if data[SEAL] != own:
        raise BundleError(
            f"{name} is altered: its own sha256 differs",
            f"copy the bundle again, or {EXPORT_AGAIN}",
        )


def seal(data: Mapping[str, Any]) -> str:
    """The sha256 of a manifest's content, in whatever order and layout it stands in the file.

    The seal itself is left out.
    """
    content = {key: value for key, value in data.items() if key != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_block(cls: type[Any], block: dict[str, Any], where: str) -> Any:
    """The block ``model`` or ``perception``, but for its name, as the dataclass ``cls``."""
    values = {key: value for key, value in block.items() if key != "name"}
    return read_as(cls, values, f"{MANIFEST}: {where}")


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``manifest.json`` into ``folder``, with its own hash."""
    write_sealed(to_object(manifest), folder)


def to_object(manifest: Manifest) -> dict[str, Any]:
    """``manifest`` as JSON types, without its seal."""
    data = dataclasses.asdict(manifest)
    data["budget"] = {key: value for key, value in data["budget"].items() if value is not None}
    if not data["budget"]:
        del data["budget"]
    return data


def write_sealed(data: Mapping[str, Any], folder: Path) -> None:
    """Write ``data`` as the manifest in ``folder``; its seal is put behind the rest."""
    (folder / MANIFEST).write_text(sealed_text(data), "utf-8")


def sealed_text(data: Mapping[str, Any]) -> str:
    """``data`` as a manifest's text, with its seal."""
    return json.dumps({**data, SEAL: seal(data)}, indent=1) + "\n"
