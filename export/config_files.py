"""Geometry of the models, as config.json and its neighbours tell it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpt_edge.runtime import image
from vpt_edge.runtime.errors import CheckpointError

ENCODERS = {
    "clip": "clip",
    "dino": "detection",
    "sam": "seg",
}  # the authors' vision_encoder_ls -> kind

UNSCALED = ("default", "mrope")  # of rope_scaling: rotary positions as they are


@dataclass(frozen=True)
class VisionConfig:
    """Geometry of Qwen2-VL's vision tower; the defaults are those that transformers leaves out of
    config.json."""

    hidden_size: int
    embed_dim: int = 1280
    depth: int = 32
    num_heads: int = 16
    mlp_ratio: float = 4
    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    in_channels: int = 3

    @property
    def mlp_dim(self) -> int:
        return int(self.embed_dim * self.mlp_ratio)

    @property
    def patch_width(self) -> int:
        """Numbers in one flattened patch: channels, frames, rows, columns."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads


@dataclass(frozen=True)
class TextConfig:
    """Geometry of the language model."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    mrope_section: tuple[int, int, int]
    tie_word_embeddings: bool

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class Dinov2Config:
    """Geometry of DINOv2; the defaults are facebook/dinov2-large, which the authors' code hard-
    wires."""

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_ratio: float = 4
    patch_size: int = 14
    image_size: int = 518
    layer_norm_eps: float = 1e-6
    image_side = 224  # what it is shown

    @property
    def mlp_dim(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def grid(self) -> int:
        return self.image_side // self.patch_size


@dataclass(frozen=True)
class SamConfig:
    """Geometry of SAM's encoder; the defaults are facebook/sam-vit-large, which the authors' code
    hard-wires."""

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_dim: int = 4096
    patch_size: int = 16
    window_size: int = 14
    global_attn_indexes: tuple[int, ...] = (5, 11, 17, 23)
    output_channels: int = 256
    layer_norm_eps: float = 1e-6
    image_side = 1024

    @property
    def grid(self) -> int:
        return self.image_side // self.patch_size


def read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing; a checkpoint folder holds config.json, tokenizer.json and weights"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}); download or copy it again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {type(data).__name__}, expected an object")
    return data


def expect(data: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError where a value of ``data`` is not the one that the graphs are written
    for."""
    wrong = [
        f"{key} is {data.get(key)!r}, expected {value!r}"
        for key, value in expected.items()
        if data.get(key) != value
    ]
    if wrong:
        raise CheckpointError(
            f"{path} describes a model that vpt-edge cannot export: {'; '.join(wrong)}"
        )


def kind_of(config: Mapping[str, Any], path: Path) -> str:
    if config.get("model_type") != "qwen2_vl_vpt":
        found = config.get("model_type")
        raise CheckpointError(
            f"{path} is no VPT checkpoint: model_type is {found!r}, expected 'qwen2_vl_vpt'"
        )
    encoders = config.get("vision_encoder_ls")
    if not isinstance(encoders, list) or len(encoders) != 1 or encoders[0] not in ENCODERS:
        raise CheckpointError(
            f"{path}: vision_encoder_ls is {encoders!r}, expected one of {', '.join(ENCODERS)} in a list"
        )
    return ENCODERS[encoders[0]]


def text_config(config: Mapping[str, Any], path: Path) -> TextConfig:
    expect(config, {"hidden_act": "silu"}, path)
    expect(
        {"projector_scale": 1, "use_sliding_window": False, **config},
        {"projector_scale": 1, "use_sliding_window": False},
        path,
    )
    values = {**config, "mrope_section": _mrope_section(config, path)}
    absent = [
        key
        for key in TextConfig.__dataclass_fields__
        if key not in values or values[key] in (None, ())
    ]
    if absent:
        raise CheckpointError(
            f"{path / 'config.json'} lacks {', '.join(absent)}; download or copy the checkpoint again"
        )
    text = TextConfig(**{key: values[key] for key in TextConfig.__dataclass_fields__})
    if len(text.mrope_section) != 3 or 2 * sum(text.mrope_section) != text.head_dim:
        found, expected = list(text.mrope_section), text.head_dim // 2
        raise CheckpointError(
            f"{path / 'config.json'}: mrope_section is {found}, expected three numbers of sum {expected}"
        )
    return text


def _mrope_section(config: Mapping[str, Any], path: Path) -> tuple[Any, ...]:
    """The rotary dimensions of time, height and width, () where they are absent.

    The type beside them is absent or one that scales nothing (PROTOCOL 1.4): the graphs know no
    other."""
    scaling = config.get("rope_scaling")
    if scaling is None:
        return ()
    if not isinstance(scaling, dict):
        raise CheckpointError(
            f"{path / 'config.json'}: rope_scaling is {scaling!r}, expected an object with "
            "mrope_section; download or copy the checkpoint again"
        )
    for key in ("type", "rope_type"):
        if key in scaling and scaling[key] not in UNSCALED:
            raise CheckpointError(
                f"{path / 'config.json'} describes a model that vpt-edge cannot export: "
                f"{key} of rope_scaling is {scaling[key]!r}, expected 'default' or 'mrope'"
            )
    return tuple(scaling.get("mrope_section") or ())


def vision_config(config: Mapping[str, Any], path: Path) -> VisionConfig:
    data = config.get("vision_config")
    if not isinstance(data, dict):
        raise CheckpointError(
            f"{path / 'config.json'} lacks vision_config; download or copy the checkpoint again"
        )
    aliases = {
        "in_chans": "in_channels",
        "spatial_patch_size": "patch_size",
        "spatial_merge_size": "merge_size",
    }
    values: dict[str, Any] = {"hidden_size": 3584}
    values |= {str(aliases.get(key, key)): value for key, value in data.items()}
    vision = VisionConfig(
        **{key: values[key] for key in VisionConfig.__dataclass_fields__ if key in values}
    )
    fixed = {
        "hidden_size": config["hidden_size"],
        "patch_size": image.PATCH,
        "merge_size": image.MERGE,
        "temporal_patch_size": image.FRAMES,
        "in_channels": 3,
        "hidden_act": "quick_gelu",
    }
    found: dict[str, Any] = {"hidden_act": "quick_gelu", **values, **vision.__dict__}
    expect(found, fixed, path / "config.json")
    return vision


def encoder_config(kind: str, folder: Path) -> Dinov2Config | SamConfig | None:
    """The re-encoder's geometry: a file beside config.json where there is one, else what the
    authors hard-wire."""
    if kind == "clip":
        return None
    cls: Any = Dinov2Config if kind == "detection" else SamConfig
    path = folder / f"{kind}_model_config.json"
    if not path.exists():
        return cls()
    data = read_json(path)
    fixed = {
        "use_swiglu_ffn": False,
        "use_abs_pos": True,
        "use_rel_pos": True,
        "qkv_bias": True,
        "hidden_act": "gelu",
    }
    expect(data, {key: value for key, value in fixed.items() if key in data}, path)
    values = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
    return cls(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )
