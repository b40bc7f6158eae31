"""A checkpoint of the released models' names, shapes and files with random weights: the real size
without a download.

    python -m benchmarks.big_checkpoint --kind clip --size 2b --out build/big-2b-clip

It costs the same to export, to hold and to run. Like real models it has outlier channels: in every
third norm the same few channels are 20 to 60 times as large. No more than a block of one tensor is
in memory, and the same seed gives the same bytes whatever the number of layers.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from benchmarks.big_tokenizer import write_plain_tokenizer, write_tokenizer
from benchmarks.plain_configs import CONFIGS
from vpt_edge.export.models import LOOKING, Model, vpt

TEXT: dict[str, dict[str, Any]] = {
    "2b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}
ENCODER = {kind: encoder for encoder, kind in vpt.KINDS.items()}
LAYERS = 28
BLOCKS = 32
SHARD_BYTES = 4_000_000_000  # Qwen2-VL's own shards
NUMBERS = 1 << 24  # of a tensor, that are made at a time
OUTLIERS = 6  # channels of a norm
LOUD = (20.0, 60.0)  # how many times as large they are
NAMES = {  # fields of config.json that name a token
    "bos_token_id": "<|endoftext|>",
    "eos_token_id": "<|im_end|>",
    "para_start_id": "<|im_start|>",
    "para_end_id": "<|im_end|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "vision_token_id": "<|vision_pad|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
PREPROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "resample": 3,
}


QWEN3_PREPROCESSOR = {
    **PREPROCESSOR,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "min_pixels": 65536,
    "max_pixels": 16777216,
    "patch_size": 16,
}


def make_config(kind: str, size: str, layers: int = LAYERS, blocks: int = BLOCKS) -> dict[str, Any]:
    """config.json but for the tokens, as transformers writes it: what equals a default is left out
    of vision_config.
    """
    text = TEXT[size]
    vision = {"hidden_size": text["hidden_size"], "depth": blocks}
    defaults = {"hidden_size": 3584, "depth": BLOCKS}
    return {
        **text,
        "architectures": ["VPT_Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl_vpt",
        "vision_encoder_ls": [ENCODER[kind]],
        "num_hidden_layers": layers,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "projector_scale": 1,
        "num_inner_forward_run": 2,
        "para_mask_id": 1,
        "para_mask_ratio": 0.5,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.45.2",
        "vision_config": {
            "model_type": "qwen2_vl",
            "in_chans": 3,
            "spatial_patch_size": 14,
            **{key: value for key, value in vision.items() if value != defaults[key]},
        },
    }


def expected_shapes(config: dict[str, Any], folder: Path) -> dict[str, tuple[int, ...]]:
    """Every tensor of such a checkpoint, with the separate ``lm_head`` that tied files have too
    (PROTOCOL 6).
    """
    return Model.read(config, folder).tensors()


def write_checkpoint(
    config: dict[str, Any], folder: Path, seed: int = 0, shard_bytes: int = SHARD_BYTES
) -> None:
    """Stream a checkpoint of ``config`` into ``folder``, where a file may describe a smaller DINOv2
    or SAM.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config["model_type"] in LOOKING:
        kind = vpt.read_kind(config, folder)
        tokens = write_tokenizer(kind, folder)
        config = {**config, **_name_actions(kind, tokens)}
    else:
        tokens = write_plain_tokenizer(folder)
    config = {**config, **{field: tokens[token] for field, token in NAMES.items()}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    preprocessor = PREPROCESSOR
    if config["model_type"] == "qwen3_vl":
        preprocessor = QWEN3_PREPROCESSOR
    (folder / "preprocessor_config.json").write_text(
        json.dumps(preprocessor, indent=2) + "\n", "utf-8"
    )
    shapes = expected_shapes(config, folder)
    shards = _shards(shapes, shard_bytes)
    files = [
        f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)
    ]
    for file, shard in zip(files, shards, strict=True):
        _write_shard(folder / file, shard, seed, tied=config["tie_word_embeddings"])
    index = {
        "metadata": {"total_size": sum(map(_bytes, shapes.values()))},
        "weight_map": {
            name: file for file, shard in zip(files, shards, strict=True) for name in shard
        },
    }
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(index, indent=2) + "\n", "utf-8"
    )


def _name_actions(kind: str, tokens: dict[str, int]) -> dict[str, int | None]:
    """The fields of config.json that name the tokens of each kind; null but for ``kind``."""
    fields = {}
    for other in vpt.KINDS.values():
        for field, name in (
            ("image_token_id", "image_pad"),
            ("action_start_id", "action_start"),
            ("action_id", "action"),
        ):
            token = tokens.get(f"<|{other}_{name}|>") if other == kind else None
            fields[f"{other}_{field}"] = token
    return fields


def _bytes(shape: tuple[int, ...]) -> int:
    return 2 * int(torch.Size(shape).numel())


def _shards(shapes: dict[str, tuple[int, ...]], limit: int) -> list[dict[str, tuple[int, ...]]]:
    """The tensors in order, as many in each shard as fit into ``limit`` bytes."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes.items():
        if shards[-1] and sum(map(_bytes, shards[-1].values())) + _bytes(shape) > limit:
            shards.append({})
        shards[-1][name] = shape
    return shards


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]], seed: int, tied: bool) -> None:
    """One safetensors file: the length of the header, the header, the tensors one behind the
    other.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start = end
        end += _bytes(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            same = "model.embed_tokens.weight" if tied and name == "lm_head.weight" else name
            _write_tensor(file, same, shape, seed)


def _write_tensor(file: BinaryIO, name: str, shape: tuple[int, ...], seed: int) -> None:
    """Normal numbers, a block at a time; each tensor has a seed of its own."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode(), seed))
    mean, deviation = _distribution(name, shape)
    left = torch.Size(shape).numel()
    while left:
        numbers = torch.empty(min(left, NUMBERS), dtype=torch.bfloat16).normal_(
            mean, deviation, generator=generator
        )
        is_of_heads = name.endswith(("q_norm.weight", "k_norm.weight"))
        if mean == 1 and not is_of_heads and zlib.crc32(name.encode()) % 3 == 0:
            _make_loud(numbers, name, seed)
        numbers.view(torch.int16).numpy().tofile(file)
        left -= len(numbers)


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if len(shape) > 1 and "embed" not in name and name != "lm_head.weight":
        inputs = torch.Size(shape[1:]).numel()
        return 0.0, 0.5 / inputs**0.5  # the residual stream stays within bounds
    if name.endswith("lambda1"):
        return 0.1, 0.01
    is_norm = name.endswith(".weight") and len(shape) == 1
    return (1.0, 0.1) if is_norm else (0.0, 0.02)


def _make_loud(numbers: torch.Tensor, name: str, seed: int) -> None:
    """Scale the outlier channels of a norm, the same in every norm of a part of the model."""
    part = torch.Generator().manual_seed(zlib.crc32(name.split(".")[0].encode(), seed))
    channels = torch.randperm(len(numbers), generator=part)[:OUTLIERS]
    numbers[channels] *= (
        torch.empty(len(channels)).uniform_(*LOUD, generator=part).to(numbers.dtype)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A checkpoint of the released names and shapes with random weights."
    )
    kinds = ("clip", "det", "seg", *CONFIGS)
    parser.add_argument("--kind", choices=kinds, required=True)
    parser.add_argument("--size", choices=tuple(TEXT), default="2b", help="of clip, det and seg")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--layers", type=int, default=LAYERS, help=f"of the language model (default {LAYERS})"
    )
    parser.add_argument(
        "--blocks", type=int, default=BLOCKS, help=f"of the vision tower (default {BLOCKS})"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kind = "detection" if options.kind == "det" else options.kind
    began = time.monotonic()
    if kind in CONFIGS:
        config = CONFIGS[kind]
    else:
        config = make_config(kind, options.size, options.layers, options.blocks)
    write_checkpoint(config, options.out, options.seed)
    written = sum(path.stat().st_size for path in options.out.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    taken = time.monotonic() - began
    print(f"{options.out}: {written:,} bytes in {taken:.0f} s, peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
