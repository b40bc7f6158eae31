"""The weights of a checkpoint: the names and shapes to expect, and the files that hold them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.config_files import Dinov2Config, SamConfig, read_json
from vpt_edge.runtime.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from vpt_edge.export.config_files import TextConfig, VisionConfig

Shape = tuple[int, ...]


def expected_tensors(
    kind: str, vision: VisionConfig, text: TextConfig, encoder: Dinov2Config | SamConfig | None
) -> dict[str, Shape]:
    """Name and shape of every tensor of a checkpoint of ``kind`` (PROTOCOL 6), a separate lm_head
    included."""
    names = {**_vision_tensors(vision), **_text_tensors(text)}
    width = hidden = text.hidden_size
    if isinstance(encoder, Dinov2Config):
        names |= _dinov2_tensors(encoder)
        width = encoder.hidden_size
    elif isinstance(encoder, SamConfig):
        names |= _sam_tensors(encoder)
        width = encoder.output_channels
        names |= _pair("seg_projector.conv_feature", (hidden, width, 4, 4))
    for part, size in (("feature", width), ("condition", hidden)):
        names |= _pair(f"{kind}_projector.linear_{part}", (hidden, size))
        names |= _pair(f"{kind}_projector.layernorm_{part}", (size,))
    return names


def _pair(name: str, shape: Shape) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _vision_tensors(c: VisionConfig) -> dict[str, Shape]:
    width = c.embed_dim * c.merge_size**2
    names: dict[str, Shape] = {
        "visual.patch_embed.proj.weight": (
            c.embed_dim,
            c.in_channels,
            c.temporal_patch_size,
            c.patch_size,
            c.patch_size,
        )
    }
    for block in (f"visual.blocks.{index}" for index in range(c.depth)):
        names |= _pair(f"{block}.norm1", (c.embed_dim,)) | _pair(f"{block}.norm2", (c.embed_dim,))
        names |= _pair(f"{block}.attn.qkv", (3 * c.embed_dim, c.embed_dim))
        names |= _pair(f"{block}.attn.proj", (c.embed_dim, c.embed_dim))
        names |= _pair(f"{block}.mlp.fc1", (c.mlp_dim, c.embed_dim)) | _pair(
            f"{block}.mlp.fc2", (c.embed_dim, c.mlp_dim)
        )
    names |= _pair("visual.merger.ln_q", (c.embed_dim,)) | _pair(
        "visual.merger.mlp.0", (width, width)
    )
    return names | _pair("visual.merger.mlp.2", (c.hidden_size, width))


def _text_tensors(c: TextConfig) -> dict[str, Shape]:
    size, kv_size = c.hidden_size, c.num_key_value_heads * c.head_dim
    names: dict[str, Shape] = dict.fromkeys(
        ("model.embed_tokens.weight", "lm_head.weight"), (c.vocab_size, size)
    )
    names["model.norm.weight"] = (size,)
    for layer in (f"model.layers.{index}" for index in range(c.num_hidden_layers)):
        names |= _pair(f"{layer}.self_attn.q_proj", (size, size))
        names |= _pair(f"{layer}.self_attn.k_proj", (kv_size, size)) | _pair(
            f"{layer}.self_attn.v_proj", (kv_size, size)
        )
        names[f"{layer}.self_attn.o_proj.weight"] = (size, size)
        names |= {
            f"{layer}.mlp.{part}_proj.weight": (c.intermediate_size, size)
            for part in ("gate", "up")
        }
        names[f"{layer}.mlp.down_proj.weight"] = (size, c.intermediate_size)
        names |= {
            f"{layer}.{norm}.weight": (size,)
            for norm in ("input_layernorm", "post_attention_layernorm")
        }
    return names


def _dinov2_tensors(c: Dinov2Config) -> dict[str, Shape]:
    width, root = c.hidden_size, "detection_model"
    names: dict[str, Shape] = {
        f"{root}.embeddings.cls_token": (1, 1, width),
        f"{root}.embeddings.mask_token": (1, width),
        f"{root}.embeddings.position_embeddings": (
            1,
            1 + (c.image_size // c.patch_size) ** 2,
            width,
        ),
    }
    names |= _pair(
        f"{root}.embeddings.patch_embeddings.projection", (width, 3, c.patch_size, c.patch_size)
    )
    for layer in (f"{root}.encoder.layer.{index}" for index in range(c.num_hidden_layers)):
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            names |= _pair(f"{layer}.attention.{part}", (width, width))
        for index in (1, 2):
            names |= _pair(f"{layer}.norm{index}", (width,)) | {
                f"{layer}.layer_scale{index}.lambda1": (width,)
            }
        names |= _pair(f"{layer}.mlp.fc1", (c.mlp_dim, width)) | _pair(
            f"{layer}.mlp.fc2", (width, c.mlp_dim)
        )
    return names | _pair(f"{root}.layernorm", (width,))


def _sam_tensors(c: SamConfig) -> dict[str, Shape]:
    width, out, root = c.hidden_size, c.output_channels, "seg_model"
    names: dict[str, Shape] = {f"{root}.pos_embed": (1, c.grid, c.grid, width)}
    names |= _pair(f"{root}.patch_embed.projection", (width, 3, c.patch_size, c.patch_size))
    for index in range(c.num_hidden_layers):
        layer, side = (
            f"{root}.layers.{index}",
            c.grid if index in c.global_attn_indexes else c.window_size,
        )
        for axis in "hw":
            names[f"{layer}.attn.rel_pos_{axis}"] = (2 * side - 1, width // c.num_attention_heads)
        names |= _pair(f"{layer}.attn.qkv", (3 * width, width)) | _pair(
            f"{layer}.attn.proj", (width, width)
        )
        names |= _pair(f"{layer}.layer_norm1", (width,)) | _pair(f"{layer}.layer_norm2", (width,))
        names |= _pair(f"{layer}.mlp.lin1", (c.mlp_dim, width)) | _pair(
            f"{layer}.mlp.lin2", (width, c.mlp_dim)
        )
    names |= {
        f"{root}.neck.conv1.weight": (out, width, 1, 1),
        f"{root}.neck.conv2.weight": (out, out, 3, 3),
    }
    return (
        names
        | _pair(f"{root}.neck.layer_norm1", (out,))
        | _pair(f"{root}.neck.layer_norm2", (out,))
    )


class TensorFiles:
    """The weights: safetensors or pytorch_model*.bin, single or sharded; read through memory maps."""

    def __init__(self, path: Path) -> None:
        self.shapes: dict[str, Shape] = {}
        self._file_of: dict[str, Any] = {}
        for file in self._list(path):
            try:
                opened = (
                    _open_safetensors(file) if file.suffix == ".safetensors" else _open_bin(file)
                )
                for name, shape in opened.shapes.items():
                    self.shapes[name], self._file_of[name] = shape, opened
            except (
                OSError,
                ValueError,
                RuntimeError,
                KeyError,
                EOFError,
                pickle.UnpicklingError,
            ) as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise CheckpointError(
                    f"{file} is damaged or cut off ({reason}); download or copy it again"
                ) from error

    def read(self, name: str) -> torch.Tensor:
        return self._file_of[name].read(name)

    @staticmethod
    def _list(path: Path) -> list[Path]:
        for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
            single, index = path / f"{stem}.{suffix}", path / f"{stem}.{suffix}.index.json"
            if single.exists():
                return [single]
            if index.exists():
                files = [
                    path / name
                    for name in sorted(set(read_json(index).get("weight_map", {}).values()))
                ]
                absent = [file.name for file in files if not file.exists()]
                if absent or not files:
                    raise CheckpointError(
                        f"{index} names files that are missing: {', '.join(absent)}; download them"
                    )
                return files
        raise CheckpointError(
            f"{path} holds no weights: expected model.safetensors or pytorch_model.bin, or shards"
        )


@dataclass(frozen=True)
class _OpenFile:
    shapes: dict[str, Shape]
    read: Any


def _open_safetensors(file: Path) -> _OpenFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error

    def read(name: str) -> torch.Tensor:
        with safe_open(
            file, framework="pt"
        ) as tensors:  # a map of its own: what was read goes when the tensor does
            return tensors.get_tensor(name)

    return _OpenFile(shapes, read)


def _open_bin(file: Path) -> _OpenFile:
    import torch

    tensors = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in tensors.values()
    ):
        raise ValueError("it is no dictionary of tensors")
    return _OpenFile(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__
    )
