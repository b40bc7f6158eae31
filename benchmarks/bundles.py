"""The bundles that `make gpu` runs, made where torch is.

    python -m benchmarks.bundles build/bundles

The model of tests/tags in every precision, the golden models in fp32 and fp16 with the cases'
pictures and answers where they are at hand, all for both targets; and graphs of Qwen2-VL-2B's
shape without weights, which ``shape.fill`` adds on the spot.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from exports import draw_samples
from golden import CASES, GOLDEN, TAGS

from benchmarks.graphs import TEXT, THRESHOLD, products
from benchmarks.shape import HOLLOW, Weight
from vpt_edge.export import weights as graph_weights
from vpt_edge.export.attention import TARGETS
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.exporter import CACHE_TOKENS, export
from vpt_edge.export.models import Model
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.export.quantization.plan import QuantizationPlan
from vpt_edge.export.quantization.recipe import INT4_BLOCK, RECIPES
from vpt_edge.export.writer import EMBEDDINGS, BundleWriter
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import write_manifest
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest

CARRIED = ("image.png", "conversation.json", "expected.json", "expected.npz")
SHAPED = (("fp16", "onnxruntime"), ("fp16", "tensorrt"), ("int8", "tensorrt"), ("int4", "tensorrt"))
LAYERS = 28  # of Qwen2-VL-2B
BLOCKS = 32
ALIGNMENT = 4096


def write_hollow(checkpoint: Checkpoint, precision: str, target: str, folder: Path) -> None:
    """A bundle without weights; ``HOLLOW`` lists what to fill in."""
    folder.mkdir()
    job = BundleWriter(checkpoint, RECIPES[precision], target, CACHE_TOKENS, folder)
    weights = list[Weight]()
    if job.recipe.quantized:
        inputs = {(graph, name): size for graph in job.specs for name, size in products(job, graph)}
        ones = {key: np.ones(size, np.float32) for key, size in inputs.items()}
        job = replace(
            job,
            plan=QuantizationPlan(
                job.recipe, {}, dict.fromkeys(inputs, THRESHOLD), ones, {}, INT4_BLOCK
            ),
        )
    for name in job.specs:
        model = job.build_graph(name)
        path = folder / job.specs[name].graph.file
        weights += hollow(model, path)
        graph_weights.strip(model)
        ir.save(model, path)
    shutil.copyfile(checkpoint.tokenizer_file, folder / "tokenizer.json")
    manifest = job.manifest()
    weights += tables(manifest, {weight.file for weight in weights})
    (folder / HOLLOW).write_text(json.dumps([weight.__dict__ for weight in weights]))
    files = {file.name: sha256(file) for file in folder.iterdir()}
    write_manifest(replace(manifest, files=files), folder)


def hollow(model: ir.Model, path: Path) -> Iterator[Weight]:
    """Point every large stored weight of ``model`` into a data file that is not there yet."""
    offset = 0
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if not isinstance(tensor, ir.LazyTensor) or tensor.nbytes < graph_weights.INLINE_BYTES:
            continue
        tied = name in ("lm_head.weight", "lm_head.weight.int8")  # the embedding table's own bytes
        file = EMBEDDINGS if tied else f"{path.name}.data"
        place = 0 if tied else offset
        shape = ir.Shape(tensor.shape.numpy())
        dtype = tensor.dtype
        value.const_value = ir.ExternalTensor(
            file, place, tensor.nbytes, dtype, shape=shape, name=name, base_dir=path.parent
        )
        yield Weight(file, place, tensor.nbytes, dtype.name, name)
        if not tied:
            offset += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT


def tables(manifest: Manifest, there: set[str]) -> Iterator[Weight]:
    """What the embedding table needs and no graph has listed."""
    text = manifest.text
    size = text.vocab_size * text.hidden_size * np.dtype(text.embeddings_dtype).itemsize
    if text.embeddings not in there:
        kind = {"int8": "INT8", "float16": "FLOAT16", "float32": "FLOAT"}[text.embeddings_dtype]
        yield Weight(text.embeddings, 0, size, kind, "embeddings")
    if text.embedding_scales:
        yield Weight(text.embedding_scales, 0, 4 * text.vocab_size, "FLOAT", "embeddings.scale")


def sparse_checkpoint(folder: Path) -> Checkpoint:
    """A CLIP checkpoint of Qwen2-VL-2B's shape whose tensors are a hole in a file: only their names
    are read.
    """
    tiny_bundle(folder / "tiny")
    (folder / "tiny" / "tokenizer.json").rename(folder / "tokenizer.json")
    vision = {"hidden_size": TEXT["hidden_size"], "depth": BLOCKS}
    config = {
        **TEXT,
        "num_hidden_layers": LAYERS,
        "model_type": "qwen2_vl_vpt",
        "vision_encoder_ls": ["clip"],
    }
    config["vision_config"] = vision
    (folder / "config.json").write_text(json.dumps(config))
    header = {}
    end = 0
    for name, shape in Model.read(config, folder).tensors().items():
        if name != "lm_head.weight":  # tied
            size = 2 * int(np.prod(shape))
            header[name] = {
                "dtype": "BF16",
                "shape": list(shape),
                "data_offsets": [end, end + size],
            }
            end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return Checkpoint.open(str(folder))


def write_trained(
    checkpoint: Path, name: str, precisions: tuple[str, ...], out: Path, data: Path
) -> None:
    """Bundles of a checkpoint for both targets, with one calibration for both."""
    for precision in precisions:
        for target in TARGETS:
            path = out / f"{name}-{precision}-{target}"
            ranges = out / f"{name}-{precision}.ranges.json"
            own = path.with_name(f"{path.name}.ranges.json")
            if ranges.exists():
                shutil.copyfile(ranges, own)
            calibration = (
                Calibration(str(data), max_drop=100) if RECIPES[precision].quantized else None
            )
            export(
                str(checkpoint), path, precision=precision, target=target, calibration=calibration
            )
            if calibration:
                own.rename(ranges)
            print(path, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundles that `make gpu` runs.")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--only",
        nargs="*",
        choices=("shape", "golden", "tags"),
        default=("shape", "golden", "tags"),
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if "shape" in options.only:
        with tempfile.TemporaryDirectory() as work:
            checkpoint = sparse_checkpoint(Path(work))
            for precision, target in SHAPED:
                path = options.out / f"shape-{precision}-{target}"
                shutil.rmtree(path, ignore_errors=True)
                write_hollow(checkpoint, precision, target, path)
                print(path, flush=True)
    data = draw_samples(options.out)
    if "golden" in options.only:
        for case in CASES:
            folder = options.out / "shared" / "golden" / case
            folder.mkdir(parents=True, exist_ok=True)
            for file in CARRIED:
                shutil.copyfile(GOLDEN / case / file, folder / file)
        for model in sorted((GOLDEN / "models").glob("*")):
            write_trained(model, f"golden_{model.name}", ("fp32", "fp16"), options.out, data)
    if "tags" in options.only:
        write_trained(TAGS, "tags", ("fp32", "fp16", "int8", "int4"), options.out, data)


if __name__ == "__main__":
    main()
