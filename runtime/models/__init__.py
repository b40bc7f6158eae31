"""The towers: pixels to patches, and the positions of visual tokens; one file a ``model_type``.

The manifest's ``model`` names the tower; a perception may name a second encoder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.schema import EXPORT_AGAIN

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

TOWERS = {
    "qwen2_vl": ("vpt_edge.runtime.models.qwen2_vl", "Qwen2VL"),
    "qwen2_5_vl": ("vpt_edge.runtime.models.qwen2_5_vl", "Qwen25VL"),
    "qwen3_vl": ("vpt_edge.runtime.models.qwen3_vl", "Qwen3VL"),
}
ENCODERS = {
    "dinov2": ("vpt_edge.runtime.models.dinov2", "Dinov2"),
    "sam": ("vpt_edge.runtime.models.sam", "Sam"),
}


class Tower(Protocol):
    """The vision tower of a model, and the language model's positions that belong to it."""

    @property
    def patch(self) -> int:
        """Pixels a side of a patch."""

    @property
    def levels(self) -> int:
        """Of how many of its layers the decoder is given deep features; 0 in most models."""

    def preprocess(
        self, picture: Image.Image, limits: ImageConfig, later: Image.Image | None = None
    ) -> Patches:
        """The pixels of ``picture`` as the vision encoder takes them.

        ``later``: of two frames of a scene, which are encoded as one, the second.
        """

    def grid(self, size: Size, limits: ImageConfig) -> Grid:
        """The grid of patches that ``preprocess`` makes of a picture of ``size``.

        Raises ImageError as it does.
        """

    def tokens(self, grid: Grid) -> int:
        """How many visual tokens the patches of ``grid`` become."""

    def inputs(self, patches: Patches) -> Mapping[str, Array]:
        """The inputs of the graph ``vision_encoder``."""

    def restore(self, features: Floats, grid: Grid) -> Floats:
        """What the graph made of the ``inputs`` of a picture of ``grid``, in reading order: visual
        tokens (tokens, hidden), row by row.
        """

    def place_frames(self, moments: Sequence[Moment]) -> str:
        """What stands in a message for the pairs of frames of a scene, which are at ``moments``:
        words, and ``<video>`` for each of what ``join_frames`` gives.
        """

    def join_frames(self, pairs: Sequence[Encoded], moments: Sequence[Moment]) -> list[Encoded]:
        """Encoded ``pairs`` of frames, which are at ``moments``, as they stand in a prompt.

        Raises BundleError where the bundle does not say how time is counted.
        """

    def positions(self, length: int, visuals: Sequence[Visual]) -> NDArray[np.int64]:
        """Positions (3, length) of a context with ``visuals``."""

    def rotations(self, positions: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Cosine and sine, (length, head_dim / 2) each, by which ``positions`` turn a head."""


class Encoder(Protocol):
    """A second encoder, which a perception looks through."""

    def preprocess(self, picture: Image.Image, longest_side: int) -> Floats:
        """The pixels of ``picture`` as the graph ``reencoder_features`` takes them."""


def open_tower(manifest: Manifest) -> Tower:
    """The tower that ``manifest`` names. Raises BundleError for one that this version lacks."""
    name = manifest.model.get("name")
    if not isinstance(name, str) or name not in TOWERS:
        known = ", ".join(TOWERS)
        raise BundleError(f"model {name!r} is unknown, expected one of: {known}", EXPORT_AGAIN)
    return cast("Tower", _load(TOWERS[name])(manifest))


def open_encoder(name: str) -> Encoder:
    """The encoder ``name``, one of ENCODERS."""
    return cast("Encoder", _load(ENCODERS[name])())


def _load(place: tuple[str, str]) -> Any:
    module, name = place
    return getattr(importlib.import_module(module), name)
