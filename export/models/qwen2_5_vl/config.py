"""Geometry of Qwen2.5-VL, as config.json tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpt_edge.export.config_fields import (
    Count,
    Pixels,
    Rate,
    Share,
    Width,
    read_fields,
    value_error,
)
from vpt_edge.export.config_files import CONFIG, DOWNLOAD_AGAIN, expect
from vpt_edge.export.models.qwen2_vl.foreign import (
    VISION_COMMON,
    Family,
    check_foreign,
    check_type,
)
from vpt_edge.export.models.qwen2_vl.layout import merge
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.models.qwen2_5_vl import MOST_WINDOW
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR
from vpt_edge.runtime.processor import FRAMES, MERGE

QWEN2_5_VL = Family("qwen2_5_vl", "Qwen2.5-VL")
ALIASES = {  # of one geometry there are several names
    "in_chans": "in_channels",
    "spatial_patch_size": "patch_size",
}
FOREIGN: dict[str, tuple[Any, ...]] = {
    r"(embed_dim|mlp_ratio)": (),  # Qwen2-VL
    r"(deepstack_visual_indexes|num_position_embeddings)": (),  # Qwen3-VL
    **VISION_COMMON,
}


@dataclass(frozen=True)
class VisionConfig:
    """Geometry of the vision encoder; the defaults are those that transformers leaves out of
    config.json.

    ``fullatt_block_indexes``: the layers in which every patch sees every other; in all others it
    sees those of a window of ``window_size`` pixels a side. ``tokens_per_second``: positions in
    time that a second of a video takes.
    """

    hidden_size: Width
    out_hidden_size: Width = 3584
    intermediate_size: Width = 3420
    depth: Count = 32
    num_heads: Count = 16
    patch_size: Pixels = 14
    spatial_merge_size: Count = 2
    temporal_patch_size: Count = 2
    in_channels: Count = 3
    window_size: Pixels = 112
    fullatt_block_indexes: tuple[Share, ...] = (7, 15, 23, 31)
    tokens_per_second: Rate = 4.0

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
    def window(self) -> int:
        """Visual tokens a side of a window."""
        return self.window_size // self.spatial_merge_size // self.patch_size


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
    check_type(data, file, "vision_config.", QWEN2_5_VL.model_type)
    check_foreign(data, FOREIGN, file, "vision_config.", QWEN2_5_VL.name)
    values = dict[str, Any]()
    for key, value in data.items():
        name = str(key)
        merge(values, {ALIASES.get(name, name): value}, file)
    values = {"hidden_act": "silu", **values}
    vision = read_fields(VisionConfig, values, file, "vision_config.")
    expected = {
        "out_hidden_size": hidden_size,
        "patch_size": PROCESSOR.patch,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": FRAMES,
        "in_channels": 3,
        "hidden_act": "silu",
    }
    expect({**values, **vision.__dict__}, expected, file)
    _check_layers(vision, file)
    return vision


def _check_layers(vision: VisionConfig, file: Path) -> None:
    if vision.hidden_size % vision.num_heads or vision.head_dim % 4:
        heads = f"heads of a multiple of four channels in hidden_size {vision.hidden_size}"
        raise value_error(f"{file}: vision_config.num_heads", vision.num_heads, heads)
    full = vision.fullatt_block_indexes
    if any(index >= vision.depth for index in full):
        expected = f"indexes of {vision.depth} layers"
        raise value_error(f"{file}: vision_config.fullatt_block_indexes", list(full), expected)
    if not 1 <= vision.window <= MOST_WINDOW:
        pixels = PROCESSOR.factor
        expected = f"a number from {pixels} to {MOST_WINDOW * pixels}"
        raise value_error(f"{file}: vision_config.window_size", vision.window_size, expected)
