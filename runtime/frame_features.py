"""The frames of one scene, and what the vision encoder makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.errors import ImageError, PromptError
from vpt_edge.runtime.image import open_picture, resize
from vpt_edge.runtime.still import (
    StillLimits,
    find_changed_features,
    find_changed_pixels,
    keep_tokens,
)
from vpt_edge.runtime.vision import FORMS, PictureFeatures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vpt_edge.runtime.frames import Frames, Moment
    from vpt_edge.runtime.image import Patches, Size
    from vpt_edge.runtime.manifest import ImageConfig
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.stopwatch import Stopwatch
    from vpt_edge.runtime.vision import Vision

Floats: TypeAlias = NDArray[np.float32]
Pair: TypeAlias = tuple[Image.Image, Image.Image]
SceneForm: TypeAlias = "tuple[ImageConfig, Size | None, str, StillLimits]"


class FrameFeatures:
    """The frames in pairs, of which each is encoded as one.

    ``pictures``: of each pair the later frame, from which a look at it is cut. ``moments``: of each
    pair the seconds of its frames; of an odd number the last frame stands twice.
    """

    def __init__(
        self, frames: Sequence[Image.Image], seconds: Sequence[float], vision: Vision
    ) -> None:
        last = len(frames) - 1
        self.moments: list[Moment] = []
        self._pairs: list[Pair] = []
        for start in range(0, len(frames), 2):
            end = min(start + 1, last)
            self.moments.append((seconds[start], seconds[end]))
            self._pairs.append((frames[start], frames[end]))
        self.pictures = [PictureFeatures(later, vision) for _, later in self._pairs]
        self._vision = vision
        self._encoded: dict[SceneForm, list[Encoded]] = {}

    @property
    def place(self) -> str:
        """What stands for the scene in a message."""
        return self._vision.place_frames(self.moments)

    def outline(self, size: Size, limits: ImageConfig, still: StillLimits) -> list[Encoded]:
        """What ``encode`` gives at least, without its values.

        How many tokens are still is known when they are compared, and not before.
        """
        first = self._vision.outline(size, limits)
        others = first
        if still != StillLimits():
            others = keep_tokens(first, np.empty(0, np.int64))
        pairs = [first, *[others] * (len(self.moments) - 1)]
        return self._vision.join_frames(pairs, self.moments)

    def encode(
        self,
        stopwatch: Stopwatch,
        limits: ImageConfig,
        size: Size | None,
        resampling: str,
        still: StillLimits,
    ) -> list[Encoded]:
        """The frames as they stand in a prompt, brought to ``size`` if there is one, without what
        is ``still`` of them.

        They are kept of two forms.
        """
        form = (limits, size, resampling, still)
        encoded = self._encoded.get(form)
        if encoded is None:
            pairs = [_resize(pair, size, resampling) for pair in self._pairs]
            shown = self._encode(pairs, limits, still, stopwatch)
            encoded = self._vision.join_frames(shown, self.moments)
            while len(self._encoded) >= FORMS:
                del self._encoded[next(iter(self._encoded))]
            self._encoded[form] = encoded
        return encoded

    def _encode(
        self, pairs: Sequence[Pair], limits: ImageConfig, still: StillLimits, stopwatch: Stopwatch
    ) -> list[Encoded]:
        """Each of ``pairs`` without what is ``still``; one that is so as a whole is not encoded."""
        shown = list[Encoded]()
        before: Patches | None = None
        features: Floats | None = None  # of the pair before, whatever was kept of it
        for earlier, later in pairs:
            patches = self._vision.preprocess(earlier, stopwatch, limits, later)
            places = None
            if still.pixels is not None and before is not None:
                places = find_changed_pixels(patches, before, still.pixels)
            before = patches
            if places is not None and len(places) == 0:
                shown.append(self._vision.leave_out(patches.grid))
                continue
            pair = self._vision.run(patches, stopwatch)
            if still.features is not None and features is not None:
                places = find_changed_features(pair.features, features, still.features)
            features = pair.features
            if places is not None:
                pair = keep_tokens(pair, places)
            shown.append(pair)
        return shown

    def forget(self) -> None:
        """Let the features go."""
        self._encoded = {}


def _resize(pair: Pair, size: Size | None, resampling: str) -> Pair:
    if size is None:
        return pair
    earlier, later = pair
    return resize(earlier, size, resampling), resize(later, size, resampling)


def open_frames(
    frames: Frames, perception: Perception, vision: Vision, check: Callable[[Size], object]
) -> FrameFeatures:
    """The pictures of ``frames``, opened; ``check`` says whether one of a size can be shown.

    Raises PromptError where the model takes no frames, and ImageError for what is not a picture,
    and for frames of several sizes.
    """
    if "video" not in perception.pads:
        problem = f"found {len(frames.pictures)} frames of a scene, this model takes a picture"
        raise PromptError(problem, "ask about one of the frames")
    pictures = [open_picture(each, check) for each in frames.pictures]
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        problem = f"the frames of a scene are of several sizes: {listed}"
        raise ImageError(problem, "bring them to one size")
    return FrameFeatures(pictures, frames.seconds, vision)
