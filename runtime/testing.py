"""Stand-ins for users' own tests: a bundle without a model, sessions that speak from a script."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from vpt_edge.runtime.bundle import TOKENIZER, Bundle
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.interface import decoder_tensors, projector_tensors
from vpt_edge.runtime.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    CacheConfig,
    Graph,
    ImageConfig,
    Manifest,
    TextConfig,
    Tokens,
    write_manifest,
)
from vpt_edge.runtime.manifest import Tensor as TensorSpec
from vpt_edge.runtime.models import qwen2_vl, qwen3_vl
from vpt_edge.runtime.perception.vpt import (
    REGION_TOKENS,
    VptConfig,
    action_tokens,
    block,
    pads_of,
)

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.sessions import Arrays, Session

HIDDEN = 4
VISION_HEAD_DIM = 8
LEVELS = 2  # of deep features
QWEN_SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
TOOL_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


@dataclass(frozen=True)
class _TinyTower:
    """The manifest's block ``model``, the interface of its vision encoder, and of how many layers
    that gives deep features.
    """

    block: dict[str, Any]
    vision: tuple[list[TensorSpec], list[TensorSpec]]
    levels: int = 0


TOWERS = {
    "qwen2_vl": _TinyTower(
        {"name": "qwen2_vl", "head_dim": VISION_HEAD_DIM},
        qwen2_vl.vision_tensors(VISION_HEAD_DIM, HIDDEN),
    ),
    "qwen3_vl": _TinyTower(
        {"name": "qwen3_vl", "head_dim": VISION_HEAD_DIM, "levels": LEVELS, "positions_side": 4},
        qwen3_vl.vision_tensors(VISION_HEAD_DIM, LEVELS, HIDDEN),
        LEVELS,
    ),
}


@dataclass(frozen=True)
class _Way:
    """What a bundle has by its way of looking: the manifest's ``block`` and tokens, and the longest
    side of a picture behind the first shrink, if there is one.
    """

    tokenizer: Tokenizer
    block: dict[str, Any]
    tokens: Tokens
    longest_side: int | None


def tiny_bundle(
    folder: str | os.PathLike[str],
    kind: str = "clip",
    capacity: int = 2048,
    *,
    model: str = "qwen2_vl",
    perception: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a bundle of ``kind`` (clip, detection or seg) into ``folder``, or one without Visual
    Perception Tokens that looks again by ``perception``, a block of the manifest such as
    ``none.block`` gives; ``model``: the name of its tower, qwen2_vl or qwen3_vl.

    It has a real tokenizer and empty graphs; its sessions can only be scripted:
    ``Pipeline(tiny_bundle(folder), opener=Script("..."))``.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    way = _vpt_way(kind) if perception is None else _plain_way(perception)
    tower = TOWERS[model]
    way.tokenizer.save(str(path / TOKENIZER))
    size = way.tokenizer.get_vocab_size()
    table = np.zeros((size, HIDDEN), np.float32)
    table[:, 0] = np.arange(size)  # a row names its token, so that a script can follow it
    table.tofile(path / "embeddings.bin")
    text = TextConfig(HIDDEN, 1, 1, 6, size, 10000.0, (1, 1, 1), "embeddings.bin", "float32", None)
    cache = CacheConfig("shared", "float32", capacity)
    graphs = _graphs(tower, text, cache)
    if perception is None:
        graphs |= _reencoder_graphs(kind, text)
    for graph in graphs.values():
        (path / graph.file).touch()
    files = [file for file in sorted(path.iterdir()) if file.name != MANIFEST]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        source="tiny",
        precision="fp32",
        target="onnxruntime",
        model=tower.block,
        perception=way.block,
        tokens=way.tokens,
        image=ImageConfig(way.longest_side, 3136, 12845056),
        text=text,
        cache=cache,
        graphs=graphs,
        parity=(),
        gate=None,
        files={file.name: sha256(file) for file in files},
    )
    write_manifest(manifest, path)
    return Bundle.open(path)


def _graphs(tower: _TinyTower, text: TextConfig, cache: CacheConfig) -> dict[str, Graph]:
    most = cache.capacity  # a script takes each prompt in one chunk
    bounds = {"sequence": (1, min(256, most), most), "capacity": (1, most, most)}
    bounds["last"] = (1, 1, min(16, most))
    return {
        "vision_encoder": _graph(
            "vision_encoder",
            tower.vision,
            {"patches": (4, 1024, 65536), "tokens": (1, 256, 16384)},
        ),
        "decoder": _graph(
            "decoder",
            decoder_tensors(text, cache, "sequence", tower.levels, drafted=True),
            bounds,
        ),
    }


def _reencoder_graphs(kind: str, text: TextConfig) -> dict[str, Graph]:
    graphs = {
        "reencoder_projector": _graph(
            "reencoder_projector", projector_tensors(text), {"tokens": (1, 256, 16384)}
        ),
    }
    if kind != "clip":
        pixels = TensorSpec("pixels", "float32", (1, 3, 224, 224))
        features = TensorSpec("features", "float32", (1, 256, HIDDEN))
        graphs["reencoder_features"] = _graph("reencoder_features", ([pixels], [features]), {})
    return graphs


def _graph(
    name: str,
    tensors: tuple[list[TensorSpec], list[TensorSpec]],
    bounds: dict[str, tuple[int, int, int]],
) -> Graph:
    inputs, outputs = tensors
    return Graph(f"{name}.onnx", tuple(inputs), tuple(outputs), bounds)


def _tokenizer(specials: Sequence[str], others: Sequence[str]) -> Tokenizer:
    """Bytes in Qwen2's words, and tokens of whole words: ``specials``, and ``others``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(qwen2_vl.SPLIT), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in specials])
    tokenizer.add_tokens([AddedToken(token, normalized=True) for token in others])
    return tokenizer


def _plain_way(perception: Mapping[str, Any]) -> _Way:
    """Without tokens of its own, but with those of tools, which later families have."""
    tokenizer = _tokenizer(QWEN_SPECIALS, TOOL_TOKENS)
    ids = tokenizer.get_vocab()
    tokens = Tokens(ids["<|image_pad|>"], (ids["<|im_end|>"], ids["<|endoftext|>"]))
    return _Way(tokenizer, {**perception}, tokens, None)


def _vpt_way(kind: str) -> _Way:
    pad = pads_of(kind)[f"{kind}_image"]
    specials = [*QWEN_SPECIALS, pad]
    start, action, _ = action_tokens(kind)
    triggers = (*REGION_TOKENS, *action_tokens(kind))
    tokenizer = _tokenizer(specials, triggers)
    ids = tokenizer.get_vocab()
    specials.remove("<|im_end|>")
    specials.remove("<|endoftext|>")
    end = [ids[token] for token in ("<|im_end|>", *specials)]
    side = 1024 if kind == "seg" else 512
    config = VptConfig(
        kind=kind,
        prompt_triggered=False,
        reencode_pad=ids[pad],
        action_start=ids[start],
        action=ids[action],
        triggers=tuple(ids[token] for token in triggers),
        longest_side=side,
    )
    return _Way(tokenizer, block(config), Tokens(ids["<|image_pad|>"], tuple(end)), 512)


class Script:
    """Opens sessions that let the model say ``turns``, one after the other, whatever it is shown.

    A turn ends with ``<|im_end|>`` unless it ends with another special token itself. ``sessions``
    holds what was opened, by the graph's name; each session keeps its ``calls``. A prefix for the
    assistant must not end with the action's start token, and a question about an encoded picture
    must not repeat the one before it: a script tells rounds apart by their prefills, which such a
    prefix splits in two, and of which such a question leaves a single token.
    """

    def __init__(self, *turns: str) -> None:
        self._turns = list(turns)
        self.sessions: dict[str, ScriptedSession] = {}

    def __call__(self, model: Model, name: str, /) -> Session:
        chat = Chat(model.tokenizer_file, {})
        end = model.manifest.tokens.end
        turns = []
        for text in self._turns:
            ids = chat.encode(text)
            if not ids or ids[-1] not in end:
                ids.append(end[0])
            turns.append(ids)
        self.sessions[name] = ScriptedSession(model, name, turns)
        return self.sessions[name]


class ScriptedSession:
    """One scripted graph.

    ``calls`` holds copies of each run's inputs, ``outputs`` of its outputs.
    """

    def __init__(self, model: Model, name: str, turns: Sequence[Sequence[int]]) -> None:
        self.calls: list[dict[str, np.ndarray[Any, Any]]] = []
        self.outputs: list[dict[str, np.ndarray[Any, Any]]] = []
        self.closed = False
        self._action_start = model.manifest.perception.get("action_start")
        self._name = name
        self._turns = [list(turn) for turn in turns]
        self._turn: list[int] = []
        self._start = 0  # of the turn

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        self.calls.append({name: array.copy() for name, array in inputs.items()})
        for array in outputs.values():
            array[...] = len(self.calls)  # features and states that differ from run to run
        if self._name == "decoder":
            self._speak(inputs, outputs["logits"])
        self.outputs.append({name: array.copy() for name, array in outputs.items()})

    def _speak(self, inputs: Arrays, logits: np.ndarray[Any, Any]) -> None:
        """The turn's next token behind each position that is read out."""
        embeds = inputs["embeds"][0]
        end = int(inputs.get("total_sequence_length", 0)) or int(inputs["filled"]) + len(embeds)
        is_prefill = len(embeds) > len(logits)
        if is_prefill and embeds[-1, 0] != self._action_start:
            if not self._turns:
                raise VptError("the script has no turn left for it", "give Script one more")
            self._turn = self._turns.pop(0)
            self._start = end
        first = end - len(logits) + 1 - self._start
        said = self._turn[max(first, 0) :][: len(logits)]
        logits[...] = 0
        logits[range(len(said)), said] = 1
        logits[len(said) :, 0] = 1

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> np.ndarray[Any, Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None:
        self.closed = True
