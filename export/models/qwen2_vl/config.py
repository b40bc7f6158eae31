"""Geometry of Qwen2-VL, as config.json and preprocessor_config.json tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vpt_edge.export.config_files import (
    CONFIG,
    DOWNLOAD_AGAIN,
    expect,
    expect_if_given,
    read_optional,
)
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models import qwen2_vl

UNSCALED = ("default", "mrope")  # of rope_scaling: rotary positions as they are
IMAGE_RESOLUTION = 512  # the authors' limit on the longest side (PROTOCOL 4)
MIN_PIXELS = 56 * 56
MAX_PIXELS = 12845056
ALIASES = {  # of one geometry there are several names
    "in_chans": "in_channels",
    "spatial_patch_size": "patch_size",
    "spatial_merge_size": "merge_size",
}
SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)


@dataclass(frozen=True)
class VisionConfig:
    """Geometry of the vision encoder; the defaults are those that transformers leaves out of
    config.json.
    """

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
    def merged_width(self) -> int:
        """Channels of the patches that become one visual token."""
        return self.embed_dim * self.merge_size**2

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

    @property
    def kv_size(self) -> int:
        """Channels of the keys of one token, and of its values."""
        return self.num_key_value_heads * self.head_dim


def text_config(config: Mapping[str, Any], folder: Path) -> TextConfig:
    """The language model that ``config``, read from config.json in ``folder``, describes.

    Raises CheckpointError for one that the graphs are not written for.
    """
    file = folder / CONFIG
    expect(config, {"hidden_act": "silu"}, file)
    expect_if_given(config, {"projector_scale": 1, "use_sliding_window": False}, file)
    values = {**config, "mrope_section": _mrope_section(config, file)}
    names = [field.name for field in fields(TextConfig)]
    absent = [name for name in names if values.get(name) in (None, ())]
    if absent:
        raise CheckpointError(f"{file} lacks {', '.join(absent)}", DOWNLOAD_AGAIN)
    text = TextConfig(**{name: values[name] for name in names})
    section = text.mrope_section
    if len(section) != 3 or 2 * sum(section) != text.head_dim:
        raise CheckpointError(
            f"{file}: mrope_section is {list(section)}, "
            f"expected three numbers of sum {text.head_dim // 2}"
        )
    return text


def _mrope_section(config: Mapping[str, Any], file: Path) -> tuple[Any, ...]:
    """The rotary dimensions of time, height and width, () where they are absent.

    The type beside them is absent or one that scales nothing (PROTOCOL 1.4): the graphs know no
    other.
    """
    scaling = config.get("rope_scaling")
    if scaling is None:
        return ()
    if not isinstance(scaling, dict):
        raise CheckpointError(
            f"{file}: rope_scaling is {scaling!r}, expected an object with mrope_section",
            DOWNLOAD_AGAIN,
        )
    for key in ("type", "rope_type"):
        if key in scaling and scaling[key] not in UNSCALED:
            raise CheckpointError(
                f"{file} describes a model that vpt-edge cannot export: "
                f"{key} of rope_scaling is {scaling[key]!r}, expected 'default' or 'mrope'"
            )
    return tuple(scaling.get("mrope_section") or ())


def vision_config(config: Mapping[str, Any], folder: Path) -> VisionConfig:
    """The vision encoder that ``config``, read from config.json in ``folder``, describes.

    Raises CheckpointError for one that the graphs are not written for.
    """
    data = config.get("vision_config")
    if not isinstance(data, dict):
        raise CheckpointError(f"{folder / CONFIG} lacks vision_config", DOWNLOAD_AGAIN)
    values: dict[str, Any] = {"hidden_size": 3584, "hidden_act": "quick_gelu"}
    for key, value in data.items():
        name = str(key)
        values[ALIASES.get(name, name)] = value
    known = [field.name for field in fields(VisionConfig)]
    vision = VisionConfig(**{name: values[name] for name in known if name in values})
    expected = {
        "hidden_size": config["hidden_size"],
        "patch_size": qwen2_vl.PATCH,
        "merge_size": qwen2_vl.MERGE,
        "temporal_patch_size": qwen2_vl.FRAMES,
        "in_channels": 3,
        "hidden_act": "quick_gelu",
    }
    expect({**values, **vision.__dict__}, expected, folder / CONFIG)
    return vision


def image_limits(folder: Path) -> ImageConfig:
    """How large a picture is shown, from preprocessor_config.json in ``folder``, if there is one.

    Other constants there must be those of the runtime (PROTOCOL 4), else CheckpointError.
    """
    file = folder / "preprocessor_config.json"
    data = read_optional(file)
    expected = {
        "image_mean": list(qwen2_vl.MEAN),
        "image_std": list(qwen2_vl.STD),
        "patch_size": qwen2_vl.PATCH,
        "merge_size": qwen2_vl.MERGE,
        "temporal_patch_size": qwen2_vl.FRAMES,
        "resample": 3,
    }
    expect_if_given(data, expected, file)
    return ImageConfig(
        longest_side=data.get("image_resolution", IMAGE_RESOLUTION),
        min_pixels=data.get("min_pixels", MIN_PIXELS),
        max_pixels=data.get("max_pixels", MAX_PIXELS),
    )
