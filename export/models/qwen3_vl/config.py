"""Geometry of Qwen3-VL, as config.json tells it: since 4.57 in ``text_config`` and
``vision_config``, rotary positions in ``rope_scaling`` and, since 5, in ``rope_parameters``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vpt_edge.export.config_fields import (
    Count,
    Epsilon,
    Pixels,
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
)
from vpt_edge.export.models.qwen2_vl.config import ROPE_VALUES, check_layers, read_rope
from vpt_edge.export.models.qwen2_vl.foreign import check_foreign, check_type
from vpt_edge.export.models.qwen2_vl.layout import TEXT, merge, text_levels
from vpt_edge.export.models.qwen3_vl import foreign
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.models.qwen3_vl import PROCESSOR
from vpt_edge.runtime.processor import FRAMES, MERGE

UNREAD = {"use_sliding_window": False, "partial_rotary_factor": 1.0, "mrope_interleaved": True}
MOST_LEVELS = 16  # deep features of so many layers
ALIASES = {"num_attention_heads": "num_heads", "num_hidden_layers": "depth"}


@dataclass(frozen=True)
class VisionConfig:
    """Geometry of the vision encoder; the defaults are those that transformers leaves out of
    config.json.
    """

    out_hidden_size: Width
    deepstack_visual_indexes: tuple[Share, ...]
    hidden_size: Width = 1152
    intermediate_size: Width = 4304
    depth: Count = 27
    num_heads: Count = 16
    num_position_embeddings: Width = 2304
    patch_size: Pixels = 16
    spatial_merge_size: Count = 2
    temporal_patch_size: Count = 2
    in_channels: Count = 3

    @property
    def patch_width(self) -> int:
        """Numbers in one flattened patch: channels, frames, rows, columns."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def merged_width(self) -> int:
        """Channels of the patches that become one visual token."""
        return self.hidden_size * self.spatial_merge_size**2

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def levels(self) -> int:
        """Of how many layers the decoder is given features."""
        return len(self.deepstack_visual_indexes)

    @property
    def positions_side(self) -> int:
        """Rows, and columns, of the learned positions."""
        return math.isqrt(self.num_position_embeddings)


@dataclass(frozen=True)
class TextConfig:
    """Geometry of the language model."""

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Width
    vocab_size: Vocabulary
    rms_norm_eps: Epsilon
    rope_theta: Theta
    mrope_section: tuple[Share, Share, Share]
    tie_word_embeddings: bool

    @property
    def query_size(self) -> int:
        """Channels of the queries of one token: not those of the stream."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Channels of the keys of one token, and of its values."""
        return self.num_key_value_heads * self.head_dim


def text_config(config: Mapping[str, Any], folder: Path) -> TextConfig:
    """The language model that ``config``, read from config.json in ``folder``, describes.

    Raises CheckpointError for one that the graphs are not written for.
    """
    file = folder / CONFIG
    levels = text_levels(config, file)
    values = read_rope(levels, file, interleaved=True)
    names = [field.name for field in fields(TextConfig) if field.name not in ROPE_VALUES]
    for level in levels[1:]:
        check_type(level, file, f"{TEXT}.", foreign.QWEN3_VL.model_type)
    for level in levels:
        check_foreign(level, foreign.TEXT, file, model=foreign.QWEN3_VL.name)
        known = (*names, *UNREAD, "hidden_act", "layer_types")
        merge(values, {key: level[key] for key in known if key in level}, file)
    values = {"hidden_act": "silu", "tie_word_embeddings": False, **values}
    expect(values, {"hidden_act": "silu"}, file)
    expect_if_given(values, UNREAD, file)
    text = read_fields(TextConfig, values, file)
    _check_heads(text, file)
    check_layers(values.get("layer_types"), text.num_hidden_layers, file)
    return text


def _check_heads(text: TextConfig, file: Path) -> None:
    heads = text.num_attention_heads
    if heads % text.num_key_value_heads:
        expected = f"a divisor of num_attention_heads {heads}"
        raise value_error(f"{file}: num_key_value_heads", text.num_key_value_heads, expected)
    if 2 * sum(text.mrope_section) != text.head_dim:
        expected = f"three numbers of sum {text.head_dim // 2}, half of a head"
        raise value_error(f"{file}: mrope_section", list(text.mrope_section), expected)


def vision_config(config: Mapping[str, Any], folder: Path, text: TextConfig) -> VisionConfig:
    """The vision encoder that ``config``, read from config.json in ``folder``, describes, for the
    language model ``text``.

    Raises CheckpointError for one that the graphs are not written for.
    """
    file = folder / CONFIG
    data = config.get("vision_config")
    if data is None:
        raise CheckpointError(f"{file} lacks vision_config", DOWNLOAD_AGAIN)
    if not isinstance(data, dict):
        raise value_error(f"{file}: vision_config", data, "an object")
    check_type(data, file, "vision_config.", foreign.QWEN3_VL.model_type)
    check_foreign(data, foreign.VISION, file, "vision_config.", model=foreign.QWEN3_VL.name)
    values = dict[str, Any]()
    for key, value in data.items():
        name = str(key)
        merge(values, {ALIASES.get(name, name): value}, file)
    values = {"hidden_act": "gelu_pytorch_tanh", **values}
    vision = read_fields(VisionConfig, values, file, "vision_config.")
    expected = {
        "out_hidden_size": text.hidden_size,
        "patch_size": PROCESSOR.patch,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": FRAMES,
        "in_channels": 3,
        "hidden_act": "gelu_pytorch_tanh",
    }
    expect({**values, **vision.__dict__}, expected, file)
    expect_unless_null(values, {"head_dim": vision.head_dim}, file)
    _check_vision(vision, text, file)
    return vision


def _check_vision(vision: VisionConfig, text: TextConfig, file: Path) -> None:
    if vision.hidden_size % vision.num_heads or vision.head_dim % 4:
        heads = f"heads of a multiple of four channels in hidden_size {vision.hidden_size}"
        raise value_error(f"{file}: vision_config.num_heads", vision.num_heads, heads)
    positions = vision.num_position_embeddings
    if vision.positions_side**2 != positions:
        where = f"{file}: vision_config.num_position_embeddings"
        raise value_error(where, positions, "the square of a number")
    indexes = vision.deepstack_visual_indexes
    most = min(MOST_LEVELS, text.num_hidden_layers)
    is_rising = list(indexes) == sorted(set(indexes))
    if not is_rising or not 1 <= len(indexes) <= most or indexes[-1] >= vision.depth:
        expected = f"1 to {most} of the layers 0 to {vision.depth - 1}, in order"
        where = f"{file}: vision_config.deepstack_visual_indexes"
        raise value_error(where, list(indexes), expected)
