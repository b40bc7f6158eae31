"""Pictures to features: the vision encoder and the two parts of the re-encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.finite import check_finite
from vpt_edge.runtime.models import open_encoder, open_tower
from vpt_edge.runtime.perception.actions import Crop
from vpt_edge.runtime.perception.views import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.runtime.image import Box, Size
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.perception.actions import PerceptionAction
    from vpt_edge.runtime.sessions import Session
    from vpt_edge.runtime.stopwatch import Stopwatch

    Floats = NDArray[np.float32]


class Vision:
    """Encodes pictures for the language model; features are (tokens, hidden) float32."""

    def __init__(
        self, manifest: Manifest, perception: Perception, sessions: Mapping[str, Session]
    ) -> None:
        self._manifest = manifest
        self._sessions = sessions
        self._tower = open_tower(manifest)
        self._longest_side = perception.longest_side
        self._encoder = None
        if perception.encoder is not None:
            self._encoder = open_encoder(perception.encoder)

    def outline(self, size: Size) -> Encoded:
        """What ``encode`` makes of a picture of ``size``, without its values: (tokens, 0).

        Raises ImageError for a picture that cannot be shown.
        """
        grid = self._tower.grid(size, self._manifest.image)
        return Encoded(np.empty((self._tower.tokens(grid), 0), np.float32), grid)

    def outline_reencode(self, shown: Encoded) -> Encoded:
        """The same of a re-encode of the picture that was ``shown``."""
        tokens = shown.tokens
        if self._encoder is not None:
            tokens = self._feature_shape[1]
        return Encoded(np.empty((tokens, 0), np.float32), None)

    def shown_size(self, encoded: Encoded) -> Size:
        """The pixels, (width, height), in which a picture of that grid was shown."""
        assert encoded.grid is not None
        _, rows, columns = encoded.grid
        return columns * self._tower.patch, rows * self._tower.patch

    def encode(self, picture: Image.Image, stopwatch: Stopwatch) -> Encoded:
        """The visual tokens of a picture or crop."""
        with stopwatch.stage("preprocess"):
            patches = self._tower.preprocess(picture, self._manifest.image)
        with stopwatch.stage("vision"):
            inputs = self._tower.inputs(patches)
            shape = (1, self._tower.tokens(patches.grid), self._manifest.text.hidden_size)
            features = np.empty(shape, np.float32)
            self._sessions["vision_encoder"].run(inputs, {"features": features})
            check_finite("vision_encoder", features)
        return Encoded(features[0], patches.grid)

    def reencode(self, picture: Image.Image, stopwatch: Stopwatch) -> Floats | None:
        """The features of the second encoder, before any condition; None where there is none."""
        if self._encoder is None:
            return None
        with stopwatch.stage("preprocess"):
            pixels = self._encoder.preprocess(picture, self._longest_side)
        with stopwatch.stage("reencode"):
            features = np.empty(self._feature_shape, np.float32)
            self._sessions["reencoder_features"].run({"pixels": pixels}, {"features": features})
            check_finite("reencoder_features", features)
        return features[0]

    @property
    def _feature_shape(self) -> list[int]:
        """Of the second encoder's output: (1, tokens, width)."""
        return [int(size) for size in self._manifest.graphs["reencoder_features"].outputs[0].shape]

    def project(self, features: Floats, condition: Floats) -> Floats:
        """``features`` under ``condition`` (1, hidden), the state in front of the action token."""
        projected = np.empty((1, *features.shape), np.float32)
        inputs = {"features": features[None], "condition": condition}
        self._sessions["reencoder_projector"].run(inputs, {"projected": projected})
        check_finite("reencoder_projector", projected)
        return projected[0]


class PictureFeatures:
    """A picture and what the encoders make of it: each sees it once, whatever is asked about it."""

    def __init__(self, picture: Image.Image, vision: Vision) -> None:
        self.picture = picture
        self._vision = vision
        self._encoded: Encoded | None = None
        self._reencoded: Floats | None = None

    def outline(self) -> Encoded:
        """``Vision.outline`` of the whole picture."""
        return self._vision.outline(self.picture.size)

    def view(self) -> View:
        """The whole picture, as it is first shown."""
        width, height = self.picture.size
        shown = self._vision.shown_size(self.outline())
        return View(0, (0, 0, width, height), self.picture.size, shown)

    def outline_look(self, action: PerceptionAction) -> Encoded:
        """What the look of ``action`` adds, without its values.

        Raises ImageError for a crop that cannot be shown.
        """
        if isinstance(action, Crop):
            left, top, right, bottom = action.box
            return self._vision.outline((right - left, bottom - top))
        return self._vision.outline_reencode(self.outline())

    def encode(self, stopwatch: Stopwatch) -> Encoded:
        """The whole picture's visual tokens."""
        if self._encoded is None:
            self._encoded = self._vision.encode(self.picture, stopwatch)
        return self._encoded

    def crop(self, box: Box, stopwatch: Stopwatch) -> tuple[Image.Image, Encoded]:
        """What is in ``box``, in the picture's own pixels, and its visual tokens."""
        crop = self.picture.crop(box)
        return crop, self._vision.encode(crop, stopwatch)

    def reencode(self, shown: Encoded, stopwatch: Stopwatch) -> Encoded:
        """The features of a re-encode: of the second encoder, or once more those that were
        ``shown``.

        CLIP's pixels are the same, and so are its features (PROTOCOL 8).
        """
        if self._reencoded is None:
            self._reencoded = self._vision.reencode(self.picture, stopwatch)
        if self._reencoded is None:
            return Encoded(shown.features, None)
        return Encoded(self._reencoded, None)

    def forget(self) -> None:
        """Let the features go."""
        self._encoded = None
        self._reencoded = None
