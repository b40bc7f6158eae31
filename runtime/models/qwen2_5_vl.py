"""Qwen2.5-VL's tower: Qwen2-VL's patches, in the order of the windows in which most layers see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.interface import check_graph, expect, floats
from vpt_edge.runtime.manifest import Tensor, read_block
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR
from vpt_edge.runtime.positions import mrope, mrope_positions, vision_rope
from vpt_edge.runtime.processor import MERGE, tokens
from vpt_edge.runtime.scene import SCENE, join_pairs
from vpt_edge.runtime.schema import EXPORT_AGAIN, Range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.runtime.context import Encoded, Grid, Visual
    from vpt_edge.runtime.frames import Moment
    from vpt_edge.runtime.image import Patches, Size
    from vpt_edge.runtime.manifest import ImageConfig, Manifest

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

PATCHES = MERGE**2  # of a visual token
MOST_WINDOW = 64  # visual tokens a side
SLACK = 1e-4  # of a position: what floats lose before they are cut


@dataclass(frozen=True)
class Qwen25VLConfig:
    """The manifest's block ``model``. ``head_dim``: of the vision tower's attention; ``window``:
    visual tokens a side of a window. ``tokens_per_second``: positions in time that a second of a
    scene takes; None in a bundle of before there were scenes.
    """

    head_dim: Annotated[int, Range(1, 1 << 16)]
    window: Annotated[int, Range(1, MOST_WINDOW)]
    tokens_per_second: Annotated[float, Range(0, 1000)] | None = None


@dataclass(frozen=True)
class Windows:
    """How the patches of a picture lie in windows, which are cut short at its right and below.

    ``order`` (patches,): the patches, window by window, by their place in merge order. Of patches
    in this order ``slots`` (windows, patches of a whole one) has those of each window, then zeros;
    ``places`` (patches,) is where each stands among all slots, ``lengths`` (windows,) int32 how
    many slots are taken.
    """

    order: Integers
    slots: Integers
    places: Integers
    lengths: NDArray[np.int32]


def cut_windows(grid: Grid, window: int) -> Windows:
    """The windows, of ``window`` visual tokens a side, of a picture of ``grid``."""
    _, rows, columns = grid
    row, column = np.indices((rows // MERGE, columns // MERGE)) // window
    across = -(-columns // MERGE // window) if columns else 0
    number = (row * across + column).reshape(-1)  # of each token's window, in reading order
    by_window = np.argsort(number, kind="stable")
    order = by_window[:, None] * PATCHES + np.arange(PATCHES)
    lengths = np.bincount(number) * PATCHES
    starts = np.cumsum(lengths) - lengths
    size = window**2 * PATCHES
    gaps = np.arange(len(lengths)) * size - starts
    places = np.arange(lengths.sum()) + np.repeat(gaps, lengths)
    slots = np.zeros(len(lengths) * size, np.int64)
    slots[places] = np.arange(len(places))
    return Windows(order.reshape(-1), slots.reshape(-1, size), places, lengths.astype(np.int32))


class Qwen25VL:
    """See ``runtime.models.Tower``."""

    patch = PROCESSOR.patch
    levels = 0

    def __init__(self, manifest: Manifest) -> None:
        self._config: Qwen25VLConfig = read_block(Qwen25VLConfig, manifest.model, "model")
        self._text = manifest.text
        head_dim = self._config.head_dim
        expect(head_dim % 4 == 0, f"model: head_dim is {head_dim}, expected a multiple of 4")
        most = manifest.image.max_pixels
        least = PROCESSOR.factor**2
        expect(most >= least, f"image: max_pixels is {most}, expected at least {least}")
        inputs, outputs = vision_tensors(head_dim, self._config.window, self._text.hidden_size)
        check_graph(manifest, "vision_encoder", inputs, outputs)

    def preprocess(
        self, picture: Image.Image, limits: ImageConfig, later: Image.Image | None = None
    ) -> Patches:
        return PROCESSOR.preprocess(picture, limits, later)

    def grid(self, size: Size, limits: ImageConfig) -> Grid:
        return PROCESSOR.grid(size, limits)

    def tokens(self, grid: Grid) -> int:
        return tokens(grid)

    def inputs(self, patches: Patches) -> Mapping[str, NDArray[Any]]:
        """``patches`` (1, patches, 1176), and ``cos``, ``sin`` (patches, head_dim / 2), window by
        window; ``slots``, ``places`` and ``lengths`` of ``Windows``.
        """
        _, rows, columns = patches.grid
        windows = cut_windows(patches.grid, self._config.window)
        cos, sin = vision_rope(rows, columns, MERGE, self._config.head_dim)
        return {
            "patches": patches.values[windows.order][None],
            "cos": cos[windows.order],
            "sin": sin[windows.order],
            "slots": windows.slots,
            "places": windows.places,
            "lengths": windows.lengths,
        }

    def restore(self, features: Floats, grid: Grid) -> Floats:
        order = cut_windows(grid, self._config.window).order
        restored = np.empty_like(features)
        restored[order[::PATCHES] // PATCHES] = features
        return restored

    def place_frames(self, moments: Sequence[Moment]) -> str:
        return SCENE

    def join_frames(self, pairs: Sequence[Encoded], moments: Sequence[Moment]) -> list[Encoded]:
        return [join_pairs(pairs, self._times(moments))]

    def _times(self, moments: Sequence[Moment]) -> list[int]:
        """The position in time of each pair: floor(tokens_per_second * seconds)."""
        rate = self._config.tokens_per_second
        if rate is None:
            problem = "the bundle does not say how many positions a second of a scene takes"
            raise BundleError(problem, EXPORT_AGAIN)
        begin, _ = moments[0]
        return [math.floor((first - begin) * rate + SLACK) for first, _ in moments]

    def positions(self, length: int, visuals: Sequence[Visual]) -> Integers:
        return mrope_positions(length, visuals, MERGE)

    def rotations(self, positions: Integers) -> tuple[Floats, Floats]:
        text = self._text
        return mrope(positions, text.head_dim, text.rope_theta, text.mrope_section)


def vision_tensors(
    head_dim: int, window: int, hidden_size: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the graph ``vision_encoder``."""
    half = head_dim // 2
    inputs = [floats("patches", 1, "patches", PROCESSOR.patch_width)]
    inputs += [floats("cos", "patches", half), floats("sin", "patches", half)]
    inputs.append(Tensor("slots", "int64", ("windows", window**2 * PATCHES)))
    inputs.append(Tensor("places", "int64", ("patches",)))
    inputs.append(Tensor("lengths", "int32", ("windows",)))
    return inputs, [floats("features", 1, "tokens", hidden_size)]
