"""Pictures to features: the vision encoder and the two parts of the re-encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime import image
from vpt_edge.runtime.positions import vision_rope

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.sessions import Session

    Floats = NDArray[np.float32]


class Vision:
    """Encodes pictures for the language model; features are (tokens, hidden) float32."""

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]) -> None:
        self._manifest, self._sessions = bundle.manifest, sessions

    def view(self, picture: Image.Image) -> image.View:
        """The pixels of ``picture`` as the vision encoder takes them."""
        limits = self._manifest.image
        return image.view(picture, limits.limit, limits.min_pixels, limits.max_pixels)

    def encode(self, view: image.View) -> Floats:
        """The visual tokens of a picture or crop."""
        cos, sin = vision_rope(view.grid, self._manifest.image.vision_head_dim)
        features = np.empty((1, view.tokens, self._manifest.text.hidden_size), np.float32)
        inputs = {"patches": view.patches[None], "cos": cos, "sin": sin}
        self._sessions["vision_encoder"].run(inputs, {"features": features})
        return features[0]

    def pixels(self, picture: Image.Image) -> Floats:
        """The pixels of ``picture`` as DINOv2 or SAM takes them."""
        prepare = {"detection": image.detection_pixels, "seg": image.seg_pixels}[
            self._manifest.kind
        ]
        return prepare(picture, self._manifest.image.reencode_limit)

    def reencode(self, pixels: Floats) -> Floats:
        """The features of DINOv2 or SAM, before any condition."""
        shape = self._manifest.graphs["reencoder_features"].outputs[0].shape
        features = np.empty([int(size) for size in shape], np.float32)
        self._sessions["reencoder_features"].run({"pixels": pixels}, {"features": features})
        return features[0]

    def project(self, features: Floats, condition: Floats) -> Floats:
        """``features`` under ``condition`` (1, hidden), the state in front of the action token."""
        projected = np.empty((1, *features.shape), np.float32)
        inputs = {"features": features[None], "condition": condition}
        self._sessions["reencoder_projector"].run(inputs, {"projected": projected})
        return projected[0]
