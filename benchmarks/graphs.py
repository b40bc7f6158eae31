"""Speed and bytes of quantized graphs of real shape, against their float selves in the same run.

    python benchmarks/graphs.py --layers 4

The weights are random: they cost the same to store and to run. Every round times each precision
once, in turn, so that noise strikes all of them; the ratios are medians of ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file

from vpt_edge.export.attention import PlainAttention
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models import Model
from vpt_edge.export.quantization.plan import QuantizationPlan
from vpt_edge.export.quantization.recipe import INT4_BLOCK, RECIPES
from vpt_edge.export.writer import BundleWriter
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.sessions.ort import OrtSession
from vpt_edge.runtime.testing import tiny_bundle

TEXT = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": {"mrope_section": [16, 24, 24]},
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}
CACHED = 512
PREFILL = 256
PATCHES = 1024
THRESHOLD = 6.0


def write_checkpoint(folder: Path, layers: int, blocks: int) -> Checkpoint:
    """A CLIP checkpoint of Qwen2-VL-2B's widths with ``layers`` layers, ``blocks`` vision blocks
    and random weights.
    """
    tiny_bundle(folder / "tiny")
    (folder / "tiny" / "tokenizer.json").rename(folder / "tokenizer.json")
    vision = {"hidden_size": TEXT["hidden_size"], "depth": blocks}
    config = {
        **TEXT,
        "num_hidden_layers": layers,
        "model_type": "qwen2_vl_vpt",
        "vision_encoder_ls": ["clip"],
    }
    config["vision_config"] = vision
    (folder / "config.json").write_text(json.dumps(config))
    expected = Model.read(config, folder).tensors()
    del expected["lm_head.weight"]  # tied
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        for name, shape in expected.items()
    }
    save_file(weights, folder / "model.safetensors")
    return Checkpoint.open(str(folder))


def write_bundle(
    checkpoint: Checkpoint, precision: str, folder: Path, kv_cache: str = "float"
) -> Bundle:
    """A bundle without calibration: every threshold is the same, which costs the same; so are an
    int8 cache's steps.
    """
    folder.mkdir()
    job = BundleWriter(checkpoint, RECIPES[precision], "onnxruntime", 4096, folder)
    if job.recipe.quantized:
        inputs = {
            (graph, name): size
            for graph in ("decoder", "vision_encoder")
            for name, size in products(job, graph)
        }
        ones = {key: np.ones(size, np.float32) for key, size in inputs.items()}
        text = checkpoint.text
        steps = dict[str, np.ndarray]()
        if kv_cache == "int8":
            step = np.full(text.num_key_value_heads * text.head_dim, THRESHOLD / 127, np.float32)
            steps = {
                f"{layer}.{part}": step
                for layer in range(text.num_hidden_layers)
                for part in ("key", "value")
            }
        plan = QuantizationPlan(
            job.recipe, {}, dict.fromkeys(inputs, THRESHOLD), ones, {}, INT4_BLOCK, steps
        )
        job = replace(job, plan=plan)
    job.write_tables()
    for graph in job.specs:
        job.write_graph(graph)
    return Bundle(folder, job.manifest())


def products(job: BundleWriter, graph: str) -> list[tuple[str, int]]:
    """Name and number of inputs of each weight of a graph."""
    with torch.device("meta"):
        module = job.specs[graph].build(PlainAttention)
    return [
        (name, weight.shape[1]) for name, weight in module.named_parameters() if weight.ndim == 2
    ]


def decoder_runs(bundle: Bundle) -> dict[str, Callable[[], None]]:
    """A step behind 512 cached tokens, and a prefill of 256."""
    session = OrtSession(bundle, "decoder")
    text = bundle.manifest.text
    outputs = {
        "logits": np.empty((1, text.vocab_size), np.float32),
        "hidden": np.empty((1, text.hidden_size), np.float32),
    }
    cache = KVCache(bundle.manifest)
    cache.length = CACHED

    def run(count: int) -> Callable[[], None]:
        rope = np.ones((count, text.head_dim // 2), np.float32)
        embeds = (
            np.random.default_rng(0)
            .standard_normal((1, count, text.hidden_size))
            .astype(np.float32)
        )

        def once() -> None:
            inputs, written = cache.bindings(count)
            inputs |= {"embeds": embeds, "last": np.array([count - 1])}
            session.run({**cache.rotations(rope, rope), **inputs}, {**outputs, **written})

        return once

    return {f"step behind {CACHED}": run(1), f"prefill of {PREFILL}": run(PREFILL)}


def vision_run(bundle: Bundle) -> dict[str, Callable[[], None]]:
    session = OrtSession(bundle, "vision_encoder")
    patches = np.random.default_rng(0).standard_normal((1, PATCHES, 1176)).astype(np.float32)
    rope = np.ones((PATCHES, 40), np.float32)
    features = np.empty((1, PATCHES // 4, bundle.manifest.text.hidden_size), np.float32)
    return {
        f"vision of {PATCHES} patches": lambda: session.run(
            {"patches": patches, "cos": rope, "sin": rope}, {"features": features}
        )
    }


def seconds(run: Callable[[], None], repeats: int) -> float:
    time.sleep(0.3)  # until the threads of the session before have stopped spinning
    run()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def size(bundle: Bundle) -> int:
    """Bytes of all files of a bundle."""
    return sum(path.stat().st_size for path in bundle.path.iterdir())


Times = dict[str, dict[str, list[float]]]  # seconds of each round, by precision and what was run


def measure(bundles: dict[str, Bundle], rounds: int) -> Times:
    """Every run of every bundle, in turn within a round."""
    runs = {
        name: {**decoder_runs(bundle), **vision_run(bundle)} for name, bundle in bundles.items()
    }
    times: Times = {name: {} for name in runs}
    for index in range(rounds + 1):
        for what in runs["fp32"]:
            repeats = 8 if "step" in what else 1
            for name in runs:
                taken = seconds(runs[name][what], repeats)
                if index:  # the first round warms up
                    times[name].setdefault(what, []).append(taken)
    return times


def table(times: Times, bundles: dict[str, Bundle]) -> str:
    base = times["fp32"]
    lines = [
        "| | " + " | ".join(base) + " | bytes |",
        "|---|" + "---:|" * (len(base) + 1),
    ]
    for name, bundle in bundles.items():
        cells = []
        for what, rounds in times[name].items():
            ratios = [other / own for other, own in zip(base[what], rounds, strict=True)]
            milliseconds = 1000 * float(np.median(rounds))
            cells.append(f"{milliseconds:.1f} ms ({float(np.median(ratios)):.2f}x)")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {size(bundle):,} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Speed and bytes of quantized graphs of Qwen2-VL-2B's widths."
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=2, help="of the vision tower")
    parser.add_argument("--rounds", type=int, default=5, help="0: bytes of int8 and int4 only")
    options = parser.parse_args()
    precisions = ("fp32", "int8", "int4") if options.rounds else ("int8", "int4")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "checkpoint"
        folder.mkdir()
        checkpoint = write_checkpoint(folder, options.layers, options.blocks)
        bundles = {name: write_bundle(checkpoint, name, Path(work) / name) for name in precisions}
        for name, bundle in bundles.items():
            print(f"{name}: {size(bundle):,} bytes", flush=True)
        if not options.rounds:
            return
        times = measure(bundles, options.rounds)
        print(
            f"{options.layers} layers, {options.blocks} vision blocks; "
            f"{platform.processor() or platform.machine()}, "
            f"ONNX Runtime {onnxruntime.__version__}, torch threads {torch.get_num_threads()}"
        )
        print(table(times, bundles))


if __name__ == "__main__":
    main()
