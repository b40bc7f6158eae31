"""Stand-ins for users' own tests: a bundle without a model, and sessions that speak from a script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from vpt_edge.runtime.bundle import (
    SCHEMA_VERSION,
    Bundle,
    Cache,
    Graph,
    ImageLimits,
    Manifest,
    Text,
    Tokens,
    sha256,
    write_manifest,
)
from vpt_edge.runtime.bundle import Tensor as TensorSpec
from vpt_edge.runtime.chat import Prompt
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from vpt_edge.runtime.sessions import Arrays, Session

SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)


def tiny_bundle(folder: str | os.PathLike[str], kind: str = "clip", capacity: int = 2048) -> Bundle:
    """Write a bundle of ``kind`` (clip, detection or seg) with a real tokenizer and empty graphs
    into ``folder``.

    Its sessions can only be scripted: ``Pipeline(tiny_bundle(folder), opener=Script("..."))``.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer, tokens = _tokenizer(kind)
    tokenizer.save(str(path / "tokenizer.json"))
    size, hidden = tokenizer.get_vocab_size(), 4
    table = np.zeros((size, hidden), np.float32)
    table[:, 0] = np.arange(
        size
    )  # a row names its token, so that a script can follow what it reads
    table.tofile(path / "embeddings.bin")
    features = (TensorSpec("features", "float32", (1, 256, hidden)),)
    graphs = {
        name: Graph(f"{name}.onnx", (), (), {})
        for name in ("vision_encoder", "decoder", "reencoder_projector")
    }
    if kind != "clip":
        graphs["reencoder_features"] = Graph("reencoder_features.onnx", (), features, {})
    graphs["decoder"].bounds["sequence"] = (
        1,
        256,
        capacity,
    )  # a script takes each prompt in one piece
    for graph in graphs.values():
        (path / graph.file).touch()
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        source="tiny",
        kind=kind,
        precision="fp32",
        target="onnxruntime",
        prompt_triggered=False,
        tokens=tokens,
        image=ImageLimits(512, 1024 if kind == "seg" else 512, 3136, 12845056, 8),
        text=Text(hidden, 1, 1, 6, size, 10000.0, (1, 1, 1), "embeddings.bin", "float32", None),
        cache=Cache("shared", "float32", capacity),
        graphs=graphs,
        parity=(),
        gate=None,
        files={
            file.name: sha256(file)
            for file in sorted(path.iterdir())
            if file.name != "manifest.json"
        },
    )
    write_manifest(manifest, path)
    return Bundle.open(path)


def _tokenizer(kind: str) -> tuple[Tokenizer, Tokens]:
    """Bytes, Qwen2-VL's special tokens and VPT's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad = f"<|{kind}_image_pad|>"
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False) for token in (*SPECIALS, pad)]
    )
    triggers = [
        "<|region_token_start|>",
        "<|region_token_end|>",
        *(f"<|{axis}_{i}|>" for axis in "xy" for i in range(8)),
    ]
    triggers += [f"<|{kind}_action{end}|>" for end in ("_start", "", "_end")]
    tokenizer.add_tokens([AddedToken(token, normalized=True) for token in triggers])
    ids = tokenizer.get_vocab()
    tokens = Tokens(
        image_pad=ids["<|image_pad|>"],
        reencode_pad=ids[pad],
        action_start=ids[triggers[-3]],
        action=ids[triggers[-2]],
        end=(
            ids["<|im_end|>"],
            *(
                ids[token]
                for token in (*SPECIALS, pad)
                if token not in ("<|im_end|>", "<|endoftext|>")
            ),
        ),
        triggers=tuple(ids[token] for token in triggers),
    )
    return tokenizer, tokens


class Script:
    """Opens sessions that let the model say ``turns``, one after the other, whatever it is shown.

    A turn ends with ``<|im_end|>`` unless it ends with another special token itself. ``sessions``
    holds what was opened, by the graph's name; each session keeps its ``calls``. A prefix for the
    assistant must not end with the action's start token, and a question about a view must not
    repeat the one before it: a script tells rounds apart by their prefills, which such a prefix
    splits in two, and of which such a question leaves a single token."""

    def __init__(self, *turns: str) -> None:
        self._turns = list(turns)
        self.sessions: dict[str, ScriptedSession] = {}

    def __call__(self, bundle: Bundle, name: str, /) -> Session:
        prompt, end = Prompt(bundle.file("tokenizer.json")), bundle.manifest.tokens.end
        turns = [prompt.encode(turn) for turn in self._turns]
        turns = [turn if turn and turn[-1] in end else [*turn, end[0]] for turn in turns]
        self.sessions[name] = ScriptedSession(bundle, name, turns)
        return self.sessions[name]


class ScriptedSession:
    """One scripted graph.

    ``calls`` holds copies of each run's inputs, ``outputs`` of its outputs.
    """

    def __init__(self, bundle: Bundle, name: str, turns: Sequence[Sequence[int]]) -> None:
        self.calls: list[dict[str, np.ndarray[Any, Any]]] = []
        self.outputs: list[dict[str, np.ndarray[Any, Any]]] = []
        self.closed = False
        self._action_start, self._name = bundle.manifest.tokens.action_start, name
        self._turns, self._left = [list(turn) for turn in turns], list[int]()

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        self.calls.append({name: array.copy() for name, array in inputs.items()})
        for array in outputs.values():
            array[...] = len(self.calls)  # features and states that differ from run to run
        if self._name == "decoder":
            outputs["logits"][...] = 0
            outputs["logits"][0, self._next(inputs["embeds"][0])] = 1
        self.outputs.append({name: array.copy() for name, array in outputs.items()})

    def _next(self, embeds: np.ndarray[Any, Any]) -> int:
        begins = len(embeds) > 1 and embeds[-1, 0] != self._action_start
        if begins:
            if not self._turns:
                raise VptError(
                    "the script has no turn left for what it is asked; give Script one more"
                )
            self._left = self._turns.pop(0)
        return self._left.pop(0) if self._left else 0

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> np.ndarray[Any, Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None:
        self.closed = True
