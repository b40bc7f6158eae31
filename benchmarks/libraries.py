"""Other libraries on a language model: llama.cpp and onnxruntime-genai."""

from __future__ import annotations

import ctypes
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shape import STEPS
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models.qwen2_vl.config import TextConfig as Qwen2Text
from vpt_edge.export.models.qwen3_vl.config import TextConfig as Qwen3Text

TYPES = {
    "Q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0",
    "Q4_K_M": "LLAMA_FTYPE_MOSTLY_Q4_K_M",
    "Q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0",
}
ROOM = 2304  # tokens of a cache
WORD = 1000  # an ordinary token
FLASH = ", flash attention"
# What puts everything in place, and what is timed.
Timed = tuple[Callable[[], object], Callable[[], object]]


def write_gguf(checkpoint: Path, file: Path) -> None:
    """The language model of a checkpoint in bfloat16, without a vocabulary, a tensor at a time."""
    gguf: Any = importlib.import_module("gguf")
    source = Checkpoint.open(str(checkpoint))
    text = source.text
    assert isinstance(text, Qwen2Text | Qwen3Text)
    architecture = "qwen3" if isinstance(text, Qwen3Text) else "qwen2"
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_context_length(32768)
    writer.add_embedding_length(text.hidden_size)
    writer.add_feed_forward_length(text.intermediate_size)
    writer.add_head_count(text.num_attention_heads)
    writer.add_head_count_kv(text.num_key_value_heads)
    writer.add_key_length(text.head_dim)
    writer.add_value_length(text.head_dim)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_freq_base(text.rope_theta)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(text.vocab_size)
    members = gguf.MODEL_ARCH[architecture.upper()]
    names = gguf.get_tensor_name_map(members, text.num_hidden_layers)
    shapes = {
        name: shape
        for name, shape in source.model.tensors().items()
        if name.startswith("model.") or (name == "lm_head.weight" and not source.tied)
    }
    kinds = gguf.GGMLQuantizationType
    for name, shape in shapes.items():
        matrix = len(shape) > 1
        size, kind = (2, kinds.BF16) if matrix else (4, kinds.F32)
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor_info(
            written, shape, np.dtype(f"f{size}"), size * torch.Size(shape).numel(), kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape in shapes.items():
        tensor = source.read(name)
        bits = tensor.to(torch.bfloat16).view(torch.int16) if len(shape) > 1 else tensor.float()
        writer.write_tensor_data(bits.numpy())
    writer.close()


def quantize(source: Path, kind: str, file: Path) -> None:
    """llama.cpp's own quantization, with its own choice of what stays wider."""
    library = _library()
    params = library.llama_model_quantize_default_params()
    params.ftype = getattr(library, TYPES[kind])
    if library.llama_model_quantize(str(source).encode(), str(file).encode(), ctypes.byref(params)):
        raise RuntimeError(f"llama.cpp does not quantize {source} to {kind}")


class LlamaCpp:
    """One file, with and without flash attention.

    Each length has a sequence of its own in a cache, filled once.
    """

    def __init__(self, file: Path, threads: int) -> None:
        self._library = library = _library()
        self._model = library.llama_model_load_from_file(
            str(file).encode(), library.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot read {file}")
        params = library.llama_context_default_params()
        params.n_seq_max = len(STEPS)
        params.n_ctx = len(STEPS) * ROOM
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        vocabulary = library.llama_model_get_vocab(self._model)
        self._words = int(library.llama_vocab_n_tokens(vocabulary))
        self.runs: dict[str, Timed] = {}
        self._contexts: list[Any] = []
        for way in ("", FLASH):
            params.flash_attn_type = int(bool(way))
            self._contexts.append(library.llama_init_from_model(self._model, params))
            if not self._contexts[-1]:
                raise RuntimeError(f"llama.cpp has no context for {file}")
            for index, (what, size) in enumerate(STEPS.items()):
                self.runs[what + way] = self._run(self._contexts[-1], index, *size)
        layers = library.llama_model_n_layer(self._model)
        heads = library.llama_model_n_head_kv(self._model)
        width = library.llama_model_n_embd(self._model) // library.llama_model_n_head(self._model)
        token = 2 * 2 * layers * heads * width  # keys and values are float16
        whole = file.stat().st_size  # as the embedding table is the output matrix
        self.touched = {
            what: whole + token * cached for what, (count, cached) in STEPS.items() if count == 1
        }

    def _run(self, context: Any, sequence: int, count: int, cached: int) -> Timed:
        library = self._library
        memory = library.llama_get_memory(context)
        batch = self._batch(sequence, count, cached)

        def prepare() -> None:
            filled = 1 + int(library.llama_memory_seq_pos_max(memory, sequence))
            for start in range(filled, cached, 512):
                self._decode(context, self._batch(sequence, min(512, cached - start), start))

        def run() -> int:
            self._decode(context, batch)
            logits = library.llama_get_logits_ith(context, -1)
            token = int(np.ctypeslib.as_array(logits, (self._words,)).argmax())
            library.llama_memory_seq_rm(memory, sequence, cached, -1)  # the next one is as long
            return token

        return prepare, run

    def _batch(self, sequence: int, count: int, start: int) -> Any:
        """``count`` tokens from the place ``start`` of a sequence on; the logits of the last are
        wanted.
        """
        batch = self._library.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for index in range(count):
            batch.token[index] = WORD + index
            batch.pos[index] = start + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = index == count - 1
        return batch

    def _decode(self, context: Any, batch: Any) -> None:
        if result := self._library.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode returns {result}")

    def close(self) -> None:
        self.runs.clear()
        while self._contexts:
            self._library.llama_free(self._contexts.pop())
        self._library.llama_model_free(self._model)


def write_genai(folder: Path, out: Path) -> None:
    """What onnxruntime-genai's model builder makes of transformers' folder: int4, embeddings and
    output matrix too.
    """
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    command += ["-i", str(folder), "-o", str(out)]
    command += ["-p", "int4", "-e", "cpu", "-c", str(out / "cache"), "--extra_options"]
    command += ["block_size=128", "accuracy_level=4", "prune_lm_head=true", "hf_token=false"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(
            f"onnxruntime-genai's builder: {result.stderr.strip().splitlines()[-1][:300]}"
        )
    file = out / "genai_config.json"
    config = json.loads(file.read_text("utf-8"))
    config["model"]["context_length"] = config["search"]["max_length"] = ROOM
    file.write_text(json.dumps(config, indent=1), "utf-8")


class Genai:
    """onnxruntime-genai.

    It cannot step twice at one length: it is rewound in front of each timing, and grows in it.
    """

    def __init__(self, source: Path, folder: Path, threads: int) -> None:
        self._library: Any = importlib.import_module("onnxruntime_genai")
        if not (folder / "genai_config.json").exists():
            write_genai(source, folder)
        config = json.loads((folder / "genai_config.json").read_text("utf-8"))
        decoder = config["model"]["decoder"]
        decoder.setdefault("session_options", {})["intra_op_num_threads"] = threads
        (folder / "genai_config.json").write_text(json.dumps(config, indent=1), "utf-8")
        self._model = self._library.Model(str(folder))
        self.runs = {what: self._run(*size) for what, size in STEPS.items()}
        width = decoder["num_key_value_heads"] * decoder["head_size"]
        token = 2 * 4 * decoder["num_hidden_layers"] * width
        weights = sum(path.stat().st_size for path in folder.glob("*.data"))
        self.touched = {
            what: weights + token * cached for what, (count, cached) in STEPS.items() if count == 1
        }

    def _run(self, count: int, cached: int) -> Timed:
        params = self._library.GeneratorParams(self._model)
        params.set_search_options(do_sample=False, max_length=ROOM)
        generator = self._library.Generator(self._model, params)
        ids = np.arange(WORD, WORD + max(count, cached), dtype=np.int32)

        def read() -> None:
            generator.rewind_to(0)
            generator.append_tokens(ids)
            generator.generate_next_token()

        def prepare() -> None:
            there = cached - 1 if generator.token_count() > cached else 0
            generator.rewind_to(there)
            generator.append_tokens(ids[there:])
            # Chooses from what is there; the next ones compute a token first.
            generator.generate_next_token()

        return (prepare, generator.generate_next_token) if cached else (nothing, read)

    def close(self) -> None:
        self.runs.clear()
        self._model = None


def nothing() -> None:
    """To be done in front of a run."""


def _library() -> Any:
    library: Any = importlib.import_module("llama_cpp")
    if not hasattr(library, "silent"):
        # Held as long as the library.
        library.silent = library.llama_log_callback(lambda level, text, data: None)
        library.llama_log_set(library.silent, ctypes.c_void_p(0))
        library.llama_backend_init()
    return library
