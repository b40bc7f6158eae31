"""A checkpoint's language model: in our runtime, and in torch as transformers has it."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from benchmarks import graphs
from benchmarks.libraries import WORD, Timed, nothing
from benchmarks.shape import STEPS, bytes_of_a_step
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.context import Context, Encoded, Visual
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import write_manifest
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.sampler import Sampler
from vpt_edge.runtime.sessions.ort import OrtSession

ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "qwen2_vl": "Qwen2VLForConditionalGeneration"}
# Of config.json, in the language model's own.
LEFT_OUT = ("rope_scaling", "vision_config", "vision_encoder_ls")


def write_folder(checkpoint: Path, model_type: str, folder: Path) -> None:
    """The same weights as transformers' own ``model_type``: another config.json, and links."""
    folder.mkdir()
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    config = {name: value for name, value in config.items() if value is not None}
    if model_type == "qwen2":
        config = {name: value for name, value in config.items() if name not in LEFT_OUT}
    config = {**config, "model_type": model_type, "architectures": [ARCHITECTURES[model_type]]}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    words = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(words) + "\n", "utf-8")
    for path in checkpoint.iterdir():
        if not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())


def load(folder: Path, dtype: str) -> Any:
    """The model of a folder with weights of ``dtype``."""
    transformers: Any = importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    architecture = json.loads((folder / "config.json").read_text("utf-8"))["architectures"][0]
    return (
        getattr(transformers, architecture)
        .from_pretrained(folder, dtype=getattr(torch, dtype))
        .eval()
    )


class Transformers:
    """The language model, eager or compiled.

    A step drops its own keys and values again: the next one is as long.
    """

    def __init__(self, folder: Path, dtype: str, compiled: bool, threads: int) -> None:
        torch.set_num_threads(threads)
        self._new_cache = importlib.import_module("transformers").DynamicCache
        self._model = load(folder, dtype)
        self._config = config = self._model.config
        self._forward: Any = torch.compile(self._model, dynamic=True) if compiled else self._model
        self.runs = {what: self._run(*size) for what, size in STEPS.items()}
        self._width = config.hidden_size // config.num_attention_heads
        size = self._model.dtype.itemsize
        weights = size * sum(weight.numel() for weight in self._model.parameters())
        token = 2 * size * config.num_hidden_layers * config.num_key_value_heads * self._width
        self.touched = {
            what: weights + token * cached for what, (count, cached) in STEPS.items() if count == 1
        }

    def _run(self, count: int, cached: int) -> Timed:
        ids = torch.arange(WORD, WORD + count)[None]
        caches = list[Any]()

        def prepare() -> None:
            if cached and not caches:  # what it holds costs nothing
                caches.append(self._filled(cached))

        @torch.inference_mode()
        def run() -> int:
            cache = caches[0] if caches else self._new_cache(config=self._config)
            found = self._forward(
                input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            token = int(found.logits[0, -1].argmax())
            if cached:
                cache.crop(-count)
            return token

        return prepare, run

    def _filled(self, count: int) -> Any:
        cache = self._new_cache(config=self._config)
        part = torch.zeros(
            1, self._config.num_key_value_heads, count, self._width, dtype=self._model.dtype
        )
        for layer in range(self._config.num_hidden_layers):
            cache.update(part.clone(), part.clone(), layer)
        return cache

    def close(self) -> None:
        self.runs.clear()
        self._model = self._forward = None


def write_ours(
    checkpoint: Path, precision: str, kv_cache: str, perception: str | None, folder: Path
) -> None:
    """A bundle that can be opened: with the hashes of its files.

    ``perception``: how a model without looks of its own looks again.
    """
    source = Checkpoint.open(str(checkpoint), perception)
    bundle = graphs.write_bundle(source, precision, folder, kv_cache)
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_manifest(replace(bundle.manifest, files=files), folder)


class Ours:
    """Whole steps: a token's row, rotary, the graph, the choice.

    Each length has a cache of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._bundle = bundle = Bundle.open(folder)
        self._session = OrtSession(bundle, "decoder")
        self._sampler = Sampler(0.0, None, None, None)
        self.runs = {what: self._run(*size) for what, size in STEPS.items()}
        self.touched = {
            what: bytes_of_a_step(bundle, cached) for what, (_, cached) in STEPS.items() if cached
        }
        graph = onnx.load(str(bundle.file("decoder.onnx")), load_external_data=False).graph
        weights = [
            item
            for item in graph.initializer
            if item.data_type == onnx.TensorProto.INT8 and len(item.dims) > 1
        ]
        self.products = sum(
            math.prod(item.dims) for item in weights if not item.name.startswith("lm_head")
        )

    def _run(self, count: int, cached: int) -> Timed:
        manifest = self._bundle.manifest
        perception = open_perception(manifest)
        decoder = Decoder(self._bundle, perception, self._session, lambda features, _: features)
        decoder.begin(greedy=not self._sampler.needs_logits)
        if cached:  # told again, all but one token of the prompt is there
            prompt = Context(list(range(WORD, WORD + cached)))
            return lambda: decoder.prefill(prompt), lambda: self._sampler.choose(decoder.step(WORD))
        features = np.random.default_rng(0).standard_normal(
            (count, manifest.text.hidden_size), np.float32
        )
        encoded = Encoded(features, (1, 32, count // 8))
        picture = Context([manifest.tokens.image_pad] * count, [Visual(0, encoded)])

        def read() -> int:
            decoder.forget()
            return self._sampler.choose(decoder.prefill(picture))

        return nothing, read

    def close(self) -> None:
        self.runs.clear()
        self._session.close()
