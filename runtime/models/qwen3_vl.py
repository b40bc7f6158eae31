"""Qwen3-VL's tower: patches of 16 pixels, learned positions, interleaved M-RoPE, deep features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from vpt_edge.runtime.interface import check_graph, check_levels, expect, floats
from vpt_edge.runtime.manifest import Tensor, read_block
from vpt_edge.runtime.positions import mrope, mrope_positions, table_positions, vision_rope
from vpt_edge.runtime.processor import MERGE, Processor, tokens
from vpt_edge.runtime.scene import SCENE
from vpt_edge.runtime.schema import Range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.runtime.context import Encoded, Grid, Visual
    from vpt_edge.runtime.frames import Moment
    from vpt_edge.runtime.image import Patches, Size
    from vpt_edge.runtime.manifest import ImageConfig, Manifest

    Array = NDArray[Any]
    Floats = NDArray[np.float32]

PROCESSOR = Processor(
    patch=16,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    min_pixels=65536,
    max_pixels=16777216,
)
TAPS = 4  # rows of the learned positions that a patch lies between


@dataclass(frozen=True)
class Qwen3VLConfig:
    """The manifest's block ``model``. ``head_dim``: of the vision tower's attention; ``levels``: of
    how many of its layers the decoder is given features; ``positions_side``: rows and columns of
    its learned positions.
    """

    head_dim: Annotated[int, Range(1, 1 << 16)]
    levels: Annotated[int, Range(1, 1 << 10)]
    positions_side: Annotated[int, Range(1, 1 << 12)]


class Qwen3VL:
    """See ``runtime.models.Tower``."""

    patch = PROCESSOR.patch

    def __init__(self, manifest: Manifest) -> None:
        self._config: Qwen3VLConfig = read_block(Qwen3VLConfig, manifest.model, "model")
        self._text = manifest.text
        _check(manifest, self._config)

    @property
    def levels(self) -> int:
        return self._config.levels

    def preprocess(
        self, picture: Image.Image, limits: ImageConfig, later: Image.Image | None = None
    ) -> Patches:
        return PROCESSOR.preprocess(picture, limits, later)

    def grid(self, size: Size, limits: ImageConfig) -> Grid:
        return PROCESSOR.grid(size, limits)

    def tokens(self, grid: Grid) -> int:
        return tokens(grid)

    def inputs(self, patches: Patches) -> Mapping[str, Array]:
        """``patches`` (1, patches, 1536); ``cos``, ``sin`` (patches, head_dim / 2); ``taps``,
        ``shares`` (patches, 4).
        """
        _, rows, columns = patches.grid
        cos, sin = vision_rope(rows, columns, MERGE, self._config.head_dim)
        taps, shares = table_positions(rows, columns, MERGE, self._config.positions_side)
        return {
            "patches": patches.values[None],
            "cos": cos,
            "sin": sin,
            "taps": taps,
            "shares": shares,
        }

    def restore(self, features: Floats, grid: Grid) -> Floats:
        return features

    def place_frames(self, moments: Sequence[Moment]) -> str:
        """The time of each pair in words, as its video processor writes it."""
        return "".join(f"<{(first + last) / 2:.1f} seconds>{SCENE}" for first, last in moments)

    def join_frames(self, pairs: Sequence[Encoded], moments: Sequence[Moment]) -> list[Encoded]:
        return list(pairs)

    def positions(self, length: int, visuals: Sequence[Visual]) -> NDArray[np.int64]:
        return mrope_positions(length, visuals, MERGE)

    def rotations(self, positions: NDArray[np.int64]) -> tuple[Floats, Floats]:
        text = self._text
        return mrope(positions, text.head_dim, text.rope_theta, text.mrope_section, True)


def vision_tensors(
    head_dim: int, levels: int, hidden_size: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the graph ``vision_encoder``."""
    half = head_dim // 2
    inputs = [
        floats("patches", 1, "patches", PROCESSOR.patch_width),
        floats("cos", "patches", half),
        floats("sin", "patches", half),
        Tensor("taps", "int64", ("patches", TAPS)),
        floats("shares", "patches", TAPS),
    ]
    outputs = [
        floats("features", 1, "tokens", hidden_size),
        floats("deep", levels, "tokens", hidden_size),
    ]
    return inputs, outputs


def _check(manifest: Manifest, config: Qwen3VLConfig) -> None:
    """Raise BundleError where the graphs and the limits are not those of this tower."""
    head_dim = config.head_dim
    expect(head_dim % 4 == 0, f"model: head_dim is {head_dim}, expected a multiple of 4")
    most = manifest.image.max_pixels
    least = PROCESSOR.factor**2
    expect(most >= least, f"image: max_pixels is {most}, expected at least {least}")
    inputs, outputs = vision_tensors(head_dim, config.levels, manifest.text.hidden_size)
    check_graph(manifest, "vision_encoder", inputs, outputs)
    check_levels(manifest, config.levels)
