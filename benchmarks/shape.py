"""Bundles of Qwen2-VL-2B's shape: random weights on the spot, and the runs that are timed.

Needs no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.interface import has_last
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.manifest import MANIFEST, read_manifest, write_manifest
from vpt_edge.runtime.sessions import Session, cuda, open_session
from vpt_edge.runtime.sessions.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOLLOW = "hollow.json"
STEPS = {  # new and cached tokens
    "decode at 512": (1, 512),
    "decode at 2,048": (1, 2048),
    "prefill of 512": (512, 0),
}
PATCHES = 1296  # a picture of 512x512
LOOK_PATCHES = 324  # a crop of 4x4 cells
LOOK_TOKENS = 96  # its 81 tokens and the template around them
REPEATS = {"decode at 512": 20, "decode at 2,048": 20}
TILE = 1 << 24  # random numbers that are used again and again
RESERVE = 1 << 30  # bytes of each side of the copy that measures the memory's bandwidth


@dataclass(frozen=True)
class Weight:
    """``bytes`` at ``offset`` of ``file`` that a graph reads as ``dtype``; the name says what they
    are.
    """

    file: str
    offset: int
    bytes: int
    dtype: str
    name: str


def fill(folder: Path) -> Bundle:
    """Write the weights of a hollow bundle, from a seed, and its hashes; a filled one is only
    opened.
    """
    if (folder / HOLLOW).exists():
        weights = [Weight(**entry) for entry in json.loads((folder / HOLLOW).read_text())]
        tiles = _tiles(np.random.default_rng(0))
        for file in sorted({weight.file for weight in weights}):
            with (folder / file).open("wb") as target:
                for weight in (weight for weight in weights if weight.file == file):
                    target.seek(weight.offset)
                    _write(target, weight, tiles)
        (folder / HOLLOW).unlink()
        manifest = read_manifest(folder)
        files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
        files.pop(MANIFEST)
        write_manifest(replace(manifest, files=files), folder)
    return Bundle.open(folder)


def _tiles(random: np.random.Generator) -> dict[str, bytes]:
    normal = (0.02 * random.standard_normal(TILE // 4, np.float32)).astype(np.float32)
    integers = random.integers(-127, 128, TILE, np.int8)
    floats = {"FLOAT": normal.tobytes(), "FLOAT16": normal.astype(np.float16).tobytes()}
    return {
        **floats,
        "INT8": integers.tobytes(),
        "INT4": integers.tobytes(),
        "UINT8": integers.tobytes(),
    }


def _write(target: Any, weight: Weight, tiles: dict[str, bytes]) -> None:
    tile = tiles[weight.dtype]
    if weight.name.endswith(".zero"):
        tile = bytes(1 << 12)
    elif weight.name.endswith(".scale") or "norm" in weight.name or "ln_q" in weight.name:
        value = np.float32(3e-4 if weight.name.endswith(".scale") else 1)
        dtype = {"FLOAT": np.float32, "FLOAT16": np.float16}[weight.dtype]
        tile = np.full(1 << 12, value, dtype).tobytes()
    whole, rest = divmod(weight.bytes, len(tile))
    for _ in range(whole):
        target.write(tile)
    target.write(tile[:rest])


Run = Callable[[], None]


def run_both(first: Run, second: Run) -> None:
    first()
    second()


class Runner:
    """The graphs of one bundle on one device; ``runs`` are what is timed, by what the table calls
    them.
    """

    def __init__(self, bundle: Bundle, device: str) -> None:
        self._manifest = bundle.manifest
        self._sessions = list[Session]()
        try:
            decoder = self._open(bundle, "decoder", device)
            vision = self._open(bundle, "vision_encoder", device)
            cache = KVCache(bundle.manifest, decoder.zeros)
            self.runs = {name: self._decode(decoder, cache, *size) for name, size in STEPS.items()}
            self.runs[f"vision of {PATCHES:,}"] = self._encode(vision, PATCHES)
            encode = self._encode(vision, LOOK_PATCHES)
            decode = self._decode(decoder, cache, LOOK_TOKENS, 512)
            self.runs["look"] = lambda: run_both(encode, decode)
        except BaseException:
            self.close()
            raise

    def _open(self, bundle: Bundle, name: str, device: str) -> Session:
        self._sessions.append(open_session(bundle, name, device))
        return self._sessions[-1]

    def _decode(self, session: Session, cache: KVCache, count: int, cached: int) -> Run:
        text = self._manifest.text
        graph = self._manifest.graphs["decoder"]
        rope = np.ones((count, text.head_dim // 2), np.float32)
        embeds = _floats(1, count, text.hidden_size)
        scores: NDArray[Any] = np.empty((1, text.vocab_size), np.float32)
        outputs = {"logits": scores, "hidden": np.empty((1, text.hidden_size), np.float32)}
        if any(
            tensor.name == "token" for tensor in graph.outputs
        ):  # as Decoder does: the graph picks it
            outputs = {"token": np.empty(1, np.int64), "hidden": outputs["hidden"]}

        def run() -> None:
            cache.length = cached
            inputs, written = cache.bindings(count)
            if has_last(graph):
                inputs["last"] = np.array([count - 1])
            session.run(
                {"embeds": embeds, **cache.rotations(rope, rope), **inputs}, {**outputs, **written}
            )
            cache.append(count)

        return run

    def _encode(self, session: Session, patches: int) -> Run:
        width, half = (
            int(tensor.shape[-1]) for tensor in self._manifest.graphs["vision_encoder"].inputs[:2]
        )
        pixels = _floats(1, patches, width)
        rope = np.ones((patches, half), np.float32)
        features = np.empty((1, patches // 4, self._manifest.text.hidden_size), np.float32)
        return lambda: session.run(
            {"patches": pixels, "cos": rope, "sin": rope}, {"features": features}
        )

    def close(self) -> None:
        while self._sessions:
            self._sessions.pop().close()


def _floats(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def bytes_of_a_step(bundle: Bundle, cached: int) -> int:
    """What a token must read at least: the decoder's weights once, and the filled part of the
    cache.

    The output matrix is the embedding table, but where ONNX Runtime looks at a few of its rows
    alone.
    """
    text = bundle.manifest.text
    names = ["decoder.onnx.data"]
    if bundle.manifest.target != "onnxruntime" or bundle.manifest.precision not in ("int8", "int4"):
        names.append(text.embeddings)
    width = text.kv_heads * text.head_dim * np.dtype(bundle.manifest.cache.dtype).itemsize
    cache = 2 * text.layers * cached * width
    return sum(bundle.file(name).stat().st_size for name in names) + cache


def bandwidth(seconds: Callable[[Run, int], float]) -> float:
    """Bytes a second that the device reads and writes while it copies within its memory."""
    device = cuda.Device.open()
    stream = Stream(device)
    try:
        rows = min(RESERVE, device.memory()[0] // 4) >> 26
        source, target = (stream.zeros((rows, 1 << 26), np.uint8) for _ in range(2))

        def run() -> None:
            for _ in range(8):
                target[:] = source
            stream.wait()

        taken = seconds(run, 5)
        return 16 * math.prod(source.shape) / taken
    finally:
        stream.close()
