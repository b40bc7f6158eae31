"""What windows save a large picture in Qwen2.5-VL's vision encoder.

    python -m benchmarks.windows --blocks 8

The widths are those of the 3B model, whose encoder has 32 blocks, every eighth with full attention;
the weights are random. It is held against full attention in every block: both have their turn
within a round, and the ratio is the median of ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.graphs import write_bundle
from benchmarks.plain_configs import QWEN2_5_VL, VISION
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models import Model
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.sessions.ort import OrtSession
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle

PICTURE = (1288, 966)
EVERY = 8  # blocks, of which the last has full attention
HIDDEN = 2048
TEXT = {  # little of a language model: it is not timed
    "hidden_size": HIDDEN,
    "intermediate_size": 256,
    "num_attention_heads": 16,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "vocab_size": 512,
}


def write_checkpoint(folder: Path, blocks: int, full: list[int]) -> Checkpoint:
    """Qwen2.5-VL-3B's widths with ``blocks`` vision blocks, of which ``full`` see everything."""
    folder.mkdir()
    tiny_bundle(folder / "tiny")
    (folder / "tiny" / "tokenizer.json").rename(folder / "tokenizer.json")
    vision = {"depth": blocks, "fullatt_block_indexes": full, "out_hidden_size": HIDDEN}
    config = {**QWEN2_5_VL, **TEXT, "vision_config": {**VISION, **vision}}
    (folder / "config.json").write_text(json.dumps(config))
    model = Model.read(config, folder)
    optional = model.tower.optional_tensors()
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        for name, shape in model.tensors().items()
        if name not in optional
    }
    save_file(weights, folder / "model.safetensors")
    return Checkpoint.open(str(folder))


def vision_run(bundle: Bundle, picture: Image.Image) -> Callable[[], None]:
    """Everything from pixels to features."""
    manifest = bundle.manifest
    tower = open_tower(manifest)
    session = OrtSession(bundle, "vision_encoder")

    def run() -> None:
        patches = tower.preprocess(picture, manifest.image)
        shape = (1, tower.tokens(patches.grid), manifest.text.hidden_size)
        session.run(tower.inputs(patches), {"features": np.empty(shape, np.float32)})

    return run


def measure(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round; one more warms up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if index:
                times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="Windowed vision attention against full.")
    parser.add_argument("--blocks", type=int, default=EVERY)
    parser.add_argument("--precision", choices=("fp32", "int8"), default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    every = list(range(options.blocks))
    kinds = {"windowed": every[EVERY - 1 :: EVERY], "full": every}
    pixels = np.random.default_rng(0).integers(0, 256, (*PICTURE[::-1], 3), np.uint8)
    picture = Image.fromarray(pixels)
    runs = {}
    with tempfile.TemporaryDirectory() as work:
        for name, full in kinds.items():
            checkpoint = write_checkpoint(Path(work) / f"{name}-checkpoint", options.blocks, full)
            bundle = write_bundle(checkpoint, options.precision, Path(work) / name)
            runs[name] = vision_run(bundle, picture)
        times = measure(runs, options.rounds)
    for name, taken in times.items():
        print(f"{name}, {options.precision}, {options.blocks} blocks: {np.median(taken):.2f} s")
    pairs = zip(times["full"], times["windowed"], strict=True)
    ratios = [full / windowed for full, windowed in pairs]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"full attention takes {np.median(ratios):.2f} times as long ({spread})")


if __name__ == "__main__":
    main()
