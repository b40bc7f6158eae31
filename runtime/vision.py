"""Pictures to features: the vision encoder and the two parts of the re-encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.finite import check_finite
from vpt_edge.runtime.image import resize
from vpt_edge.runtime.models import open_encoder, open_tower
from vpt_edge.runtime.processor import MERGE
from vpt_edge.runtime.reduction import reduce_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.runtime.context import Grid
    from vpt_edge.runtime.frames import Moment
    from vpt_edge.runtime.image import Patches, Size
    from vpt_edge.runtime.manifest import ImageConfig, Manifest
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.sessions import Session
    from vpt_edge.runtime.stopwatch import Stopwatch

    Floats = NDArray[np.float32]

Form: TypeAlias = "tuple[ImageConfig, Size | None, str]"  # in which a picture is shown
FORMS = 2  # of a picture whose visual tokens are kept


class Reduction(NamedTuple):
    """``part``: what is shown at a ``share`` of the visual tokens of ``whole``."""

    whole: Encoded
    share: float
    part: Encoded


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

    @property
    def token_pixels(self) -> int:
        """The pixels of one visual token."""
        return (self._tower.patch * MERGE) ** 2

    def outline(self, size: Size, limits: ImageConfig | None = None) -> Encoded:
        """What ``encode`` makes of a picture of ``size``, without its values: (tokens, 0).

        Raises ImageError for a picture that cannot be shown.
        """
        grid = self._tower.grid(size, limits or self._manifest.image)
        return Encoded(np.empty((self._tower.tokens(grid), 0), np.float32), grid)

    def count_tokens(self, encoded: Encoded) -> int:
        """The visual tokens of all that ``encoded``, a picture or crop, is of."""
        assert encoded.grid is not None
        return self._tower.tokens(encoded.grid)

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

    def encode(
        self, picture: Image.Image, stopwatch: Stopwatch, limits: ImageConfig | None = None
    ) -> Encoded:
        """The visual tokens of a picture or crop, in as many pixels as the ``limits`` say.

        None: the bundle's.
        """
        return self.run(self.preprocess(picture, stopwatch, limits), stopwatch)

    def preprocess(
        self,
        picture: Image.Image,
        stopwatch: Stopwatch,
        limits: ImageConfig | None = None,
        later: Image.Image | None = None,
    ) -> Patches:
        """What the encoder sees of a picture, or of a frame and the ``later`` one of its pair."""
        with stopwatch.stage("preprocess"):
            return self._tower.preprocess(picture, limits or self._manifest.image, later)

    def run(self, patches: Patches, stopwatch: Stopwatch) -> Encoded:
        """The visual tokens of ``patches``."""
        with stopwatch.stage("vision"):
            inputs = self._tower.inputs(patches)
            outputs = self._outputs(self._tower.tokens(patches.grid))
            self._sessions["vision_encoder"].run(inputs, outputs)
            for values in outputs.values():
                check_finite("vision_encoder", values)
        features = self._tower.restore(outputs["features"][0], patches.grid)
        return Encoded(features, patches.grid, outputs.get("deep"))

    def leave_out(self, grid: Grid) -> Encoded:
        """What stands for a frame of ``grid`` of which no visual token is shown."""
        outputs = self._outputs(0)
        places = np.empty(0, np.int64)
        return Encoded(outputs["features"][0], grid, outputs.get("deep"), places)

    def place_frames(self, moments: Sequence[Moment]) -> str:
        """What stands in a message for pairs of frames at ``moments``."""
        return self._tower.place_frames(moments)

    def join_frames(self, pairs: Sequence[Encoded], moments: Sequence[Moment]) -> list[Encoded]:
        """Encoded ``pairs`` of frames as they stand in a prompt."""
        return self._tower.join_frames(pairs, moments)

    def _outputs(self, tokens: int) -> dict[str, Floats]:
        """Arrays for what the vision encoder makes of a picture of so many visual ``tokens``."""
        hidden = self._manifest.text.hidden_size
        outputs = {"features": np.empty((1, tokens, hidden), np.float32)}
        if self._tower.levels:
            outputs["deep"] = np.empty((self._tower.levels, tokens, hidden), np.float32)
        return outputs

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
        self._encoded: dict[Form, Encoded] = {}
        self._reduction: Reduction | None = None
        self._reencoded: Floats | None = None

    def outline(self) -> Encoded:
        """``Vision.outline`` of the whole picture."""
        return self._vision.outline(self.picture.size)

    def encode(
        self,
        stopwatch: Stopwatch,
        limits: ImageConfig,
        size: Size | None = None,
        resampling: str = "lanczos",
    ) -> Encoded:
        """The whole picture's visual tokens, of the picture brought to ``size`` if there is one.

        Of two forms they are kept: a first view that was made smaller, and the picture itself.
        """
        form = (limits, size, resampling)
        encoded = self._encoded.get(form)
        if encoded is None:
            picture = self.picture
            if size is not None:
                picture = resize(picture, size, resampling)
            encoded = self._vision.encode(picture, stopwatch, limits)
            while len(self._encoded) >= FORMS:
                del self._encoded[next(iter(self._encoded))]
            self._encoded[form] = encoded
        return encoded

    def reduce(self, whole: Encoded, share: float, stopwatch: Stopwatch) -> Encoded:
        """``whole``, what ``encode`` gave, with a ``share`` of its visual tokens.

        Asked again, it is the very same: what a cache holds of it is found.
        """
        if share == 1:
            return whole
        last = self._reduction
        if last is None or last.whole is not whole or last.share != share:
            with stopwatch.stage("preprocess"):
                last = Reduction(whole, share, reduce_tokens(whole, share))
            self._reduction = last
        return last.part

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
        self._encoded = {}
        self._reduction = None
        self._reencoded = None
