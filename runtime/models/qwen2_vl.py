"""Qwen2-VL's tower: the processor's resize, patches in merge order, M-RoPE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from vpt_edge.runtime.interface import check_graph, expect, floats
from vpt_edge.runtime.manifest import read_block
from vpt_edge.runtime.positions import mrope, mrope_positions, vision_rope
from vpt_edge.runtime.processor import MERGE, Processor, tokens
from vpt_edge.runtime.scene import SCENE, join_pairs
from vpt_edge.runtime.schema import Range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.runtime.context import Encoded, Grid, Visual
    from vpt_edge.runtime.frames import Moment
    from vpt_edge.runtime.image import Patches, Size
    from vpt_edge.runtime.manifest import ImageConfig, Manifest, Tensor

    Floats = NDArray[np.float32]

PROCESSOR = Processor(
    patch=14,
    mean=(0.48145466, 0.4578275, 0.40821073),  # CLIP's
    std=(0.26862954, 0.26130258, 0.27577711),
    min_pixels=3136,
    max_pixels=12845056,
)
SPLIT = (  # of text into words, before the tokenizer's merges
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Qwen2VLConfig:
    """The manifest's block ``model``. ``head_dim``: of the vision tower's attention."""

    head_dim: Annotated[int, Range(1, 1 << 16)]


class Qwen2VL:
    """See ``runtime.models.Tower``."""

    patch = PROCESSOR.patch
    levels = 0

    def __init__(self, manifest: Manifest) -> None:
        self._config: Qwen2VLConfig = read_block(Qwen2VLConfig, manifest.model, "model")
        self._text = manifest.text
        _check_vision(manifest, self._config.head_dim)

    def preprocess(
        self, picture: Image.Image, limits: ImageConfig, later: Image.Image | None = None
    ) -> Patches:
        return PROCESSOR.preprocess(picture, limits, later)

    def grid(self, size: Size, limits: ImageConfig) -> Grid:
        return PROCESSOR.grid(size, limits)

    def tokens(self, grid: Grid) -> int:
        return tokens(grid)

    def inputs(self, patches: Patches) -> Mapping[str, Floats]:
        """``patches`` (1, patches, 1176); ``cos``, ``sin`` (patches, head_dim / 2)."""
        _, rows, columns = patches.grid
        cos, sin = vision_rope(rows, columns, MERGE, self._config.head_dim)
        return {"patches": patches.values[None], "cos": cos, "sin": sin}

    def restore(self, features: Floats, grid: Grid) -> Floats:
        return features

    def place_frames(self, moments: Sequence[Moment]) -> str:
        return SCENE

    def join_frames(self, pairs: Sequence[Encoded], moments: Sequence[Moment]) -> list[Encoded]:
        return [join_pairs(pairs)]

    def positions(self, length: int, visuals: Sequence[Visual]) -> NDArray[np.int64]:
        return mrope_positions(length, visuals, MERGE)

    def rotations(self, positions: NDArray[np.int64]) -> tuple[Floats, Floats]:
        text = self._text
        return mrope(positions, text.head_dim, text.rope_theta, text.mrope_section)


def vision_tensors(head_dim: int, hidden_size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the graph ``vision_encoder``."""
    half = head_dim // 2
    inputs = [floats("patches", 1, "patches", PROCESSOR.patch_width)]
    inputs += [floats("cos", "patches", half), floats("sin", "patches", half)]
    return inputs, [floats("features", 1, "tokens", hidden_size)]


def _check_vision(manifest: Manifest, head_dim: int) -> None:
    """Raise BundleError where the graph and the limits are not those of this tower."""
    expect(head_dim % 4 == 0, f"model: head_dim is {head_dim}, expected a multiple of 4")
    most = manifest.image.max_pixels
    least = PROCESSOR.factor**2
    expect(most >= least, f"image: max_pixels is {most}, expected at least {least}")
    inputs, outputs = vision_tensors(head_dim, manifest.text.hidden_size)
    check_graph(manifest, "vision_encoder", inputs, outputs)
