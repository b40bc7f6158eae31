"""Geometry of Qwen2-VL, as config.json tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vpt_edge.export.config_fields import (
    Count,
    Epsilon,
    Pixels,
    Ratio,
    Share,
    Theta,
    Vocabulary,
    Width,
    read_fields,
    value_error,
)
from vpt_edge.export.config_files import (
    CONFIG,
    DOWNLOAD_AGAIN,
    expect,
    expect_if_given,
    expect_unless_null,
    is_same,
)
from vpt_edge.export.models.qwen2_vl import foreign
from vpt_edge.export.models.qwen2_vl.foreign import Family, check_foreign, check_type
from vpt_edge.export.models.qwen2_vl.layout import TEXT, merge, text_levels
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR
from vpt_edge.runtime.processor import FRAMES, MERGE
from vpt_edge.runtime.schema import brief

UNSCALED = ("default", "mrope")  # of rope_scaling: rotary positions as they are
ROPE = ("rope_scaling", "rope_parameters")  # the newer name holds rope_theta too
ROPE_VALUES = ("mrope_section", "rope_theta")
ALIASES = {  # of one geometry there are several names
    "in_chans": "in_channels",
    "spatial_patch_size": "patch_size",
    "spatial_merge_size": "merge_size",
}
# Of the language model, what config.json has that the graphs take no account of.
UNREAD = {"projector_scale": 1, "use_sliding_window": False, "partial_rotary_factor": 1.0}
SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
TOKEN_IDS = {  # where config.json names one of them
    "image_token_id": "<|image_pad|>",
    "vision_start_token_id": "<|vision_start|>",
}


@dataclass(frozen=True)
class VisionConfig:
    """Geometry of the vision encoder; the defaults are those that transformers leaves out of
    config.json.
    """

    hidden_size: Width
    embed_dim: Width = 1280
    depth: Count = 32
    num_heads: Count = 16
    mlp_ratio: Ratio = 4
    patch_size: Pixels = 14
    merge_size: Count = 2
    temporal_patch_size: Count = 2
    in_channels: Count = 3

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

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    vocab_size: Vocabulary
    rms_norm_eps: Epsilon
    rope_theta: Theta
    mrope_section: tuple[Share, Share, Share]
    tie_word_embeddings: bool

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def kv_size(self) -> int:
        """Channels of the keys of one token, and of its values."""
        return self.num_key_value_heads * self.head_dim


def text_config(
    config: Mapping[str, Any], folder: Path, family: Family = foreign.QWEN2_VL
) -> TextConfig:
    """The language model that ``config``, read from config.json in ``folder``, describes: that of
    Qwen2-VL, which other families have too.

    Raises CheckpointError for one that the graphs are not written for.
    """
    file = folder / CONFIG
    levels = text_levels(config, file)
    values = read_rope(levels, file)
    names = [field.name for field in fields(TextConfig) if field.name not in ROPE_VALUES]
    for level in levels[1:]:
        check_type(level, file, f"{TEXT}.", family.model_type)
    for level in levels:
        check_foreign(level, foreign.TEXT, file, model=family.name)
        known = (*names, *UNREAD, "hidden_act", "head_dim", "layer_types")
        merge(values, {key: level[key] for key in known if key in level}, file)
    expect(values, {"hidden_act": "silu"}, file)
    expect_if_given(values, UNREAD, file)
    text = read_fields(TextConfig, values, file)
    _check_heads(text, file)
    expect_unless_null(values, {"head_dim": text.head_dim}, file)
    check_layers(values.get("layer_types"), text.num_hidden_layers, file)
    return text


def _check_heads(text: TextConfig, file: Path) -> None:
    heads = text.num_attention_heads
    if text.hidden_size % heads:
        expected = f"a divisor of hidden_size {text.hidden_size}"
        raise value_error(f"{file}: num_attention_heads", heads, expected)
    if heads % text.num_key_value_heads:
        expected = f"a divisor of num_attention_heads {heads}"
        raise value_error(f"{file}: num_key_value_heads", text.num_key_value_heads, expected)
    if 2 * sum(text.mrope_section) != text.head_dim:
        expected = f"three numbers of sum {text.head_dim // 2}, half of a head"
        raise value_error(f"{file}: mrope_section", list(text.mrope_section), expected)


def check_layers(types: Any, count: int, file: Path) -> None:
    """Raise CheckpointError unless newer transformers' ``layer_types`` say of each of ``count``
    layers that it attends to everything.
    """
    if types is not None and not is_same(types, ["full_attention"] * count):
        expected = f"full_attention for each of {count} layers"
        raise value_error(f"{file}: layer_types", types, expected)


def read_rope(
    levels: Sequence[Mapping[str, Any]], file: Path, interleaved: bool = False
) -> dict[str, Any]:
    """What there is of ``mrope_section``, the rotary dimensions of time, height and width, and of
    ``rope_theta``, wherever it stands; ``interleaved``: whether the model deals them out in turn.
    """
    values = dict[str, Any]()
    for level in levels:
        for key in ROPE:
            if level.get(key) is not None:
                merge(values, _rope_object(level[key], key, file, interleaved), file)
        if "rope_theta" in level:
            merge(values, {"rope_theta": level["rope_theta"]}, file)
    return values


def _rope_object(scaling: Any, name: str, file: Path, interleaved: bool) -> dict[str, Any]:
    """The type in it is absent or one that scales nothing (PROTOCOL 1.4): the graphs know no
    other.
    """
    if not isinstance(scaling, dict):
        raise CheckpointError(
            f"{file}: {name} is {brief(scaling)}, expected an object with mrope_section",
            DOWNLOAD_AGAIN,
        )
    for key in ("type", "rope_type"):
        if key in scaling and scaling[key] not in UNSCALED:
            raise CheckpointError(
                f"{file} describes a model that vpt-edge cannot export: "
                f"{key} of {name} is {brief(scaling[key])}, expected 'default' or 'mrope'"
            )
    unread = {"mrope_interleaved": interleaved, "partial_rotary_factor": 1.0}
    expect_if_given(scaling, unread, file)
    return {key: scaling[key] for key in ROPE_VALUES if key in scaling}


def vision_config(config: Mapping[str, Any], folder: Path, hidden_size: int) -> VisionConfig:
    """The vision encoder that ``config``, read from config.json in ``folder``, describes, for a
    language model of ``hidden_size``.

    Raises CheckpointError for one that the graphs are not written for.
    """
    file = folder / CONFIG
    data = config.get("vision_config")
    if data is None:
        raise CheckpointError(f"{file} lacks vision_config", DOWNLOAD_AGAIN)
    if not isinstance(data, dict):
        raise value_error(f"{file}: vision_config", data, "an object")
    check_type(data, file, "vision_config.")
    check_foreign(data, foreign.VISION, file, "vision_config.")
    values = dict[str, Any]()
    for key, value in data.items():
        name = str(key)
        merge(values, {ALIASES.get(name, name): value}, file)
    values = {"hidden_size": 3584, "hidden_act": "quick_gelu", **values}
    vision = read_fields(VisionConfig, values, file, "vision_config.")
    expected = {
        "hidden_size": hidden_size,
        "patch_size": PROCESSOR.patch,
        "merge_size": MERGE,
        "temporal_patch_size": FRAMES,
        "in_channels": 3,
        "hidden_act": "quick_gelu",
    }
    expect({**values, **vision.__dict__}, expected, file)
    sizes = {"intermediate_size": vision.mlp_dim, "out_hidden_size": hidden_size}  # newer names
    expect_unless_null(values, sizes, file)
    if vision.embed_dim % vision.num_heads or vision.head_dim % 4:
        heads = f"heads of a multiple of four channels in embed_dim {vision.embed_dim}"
        raise value_error(f"{file}: vision_config.num_heads", vision.num_heads, heads)
    return vision
