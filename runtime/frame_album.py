"""What a request about frames of one scene shows: the scene, and looks at its frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vpt_edge.runtime.album import Album
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.perception.wording import PICTURE
from vpt_edge.runtime.still import StillLimits

if TYPE_CHECKING:
    from vpt_edge.runtime.chat import Message
    from vpt_edge.runtime.context import Encoded
    from vpt_edge.runtime.frame_features import FrameFeatures
    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.options import Options
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.stopwatch import Stopwatch
    from vpt_edge.runtime.view_limits import ViewLimits
    from vpt_edge.runtime.vision import Vision


class FrameAlbum(Album):
    """An ``Album`` of frames: a question has one place for all of them.

    A pair of frames is a view, so that a model that names one means its later frame.
    """

    def __init__(
        self,
        frames: FrameFeatures,
        vision: Vision,
        perception: Perception,
        limits: ViewLimits,
        still: StillLimits,
    ) -> None:
        super().__init__(frames.pictures, vision, perception, limits)
        self._frames = frames
        self._still = still

    count = 1

    def place(self, messages: list[Message]) -> list[Message]:
        place = self._frames.place
        return [replace(each, text=each.text.replace(PICTURE, place)) for each in messages]

    def outline(self) -> list[Encoded]:
        size = self._size
        first = self._perception.first_size(size) or size
        return self._frames.outline(first, self._limits.first(first), self._still)

    def begin(self, stopwatch: Stopwatch) -> None:
        first = self._perception.first_size(self._size)
        limits = self._limits.first(first or self._size)
        resampling = self._perception.first_resampling
        self.encoded += self._frames.encode(stopwatch, limits, first, resampling, self._still)
        for index in range(len(self._pictures)):
            self._add_view(index, self.encoded[0])

    @property
    def _size(self) -> Size:
        """Of each frame."""
        return self._pictures[0].picture.size


def read_still(asked: Options, frames: FrameFeatures | None) -> StillLimits:
    """What the options say of still visual tokens.

    Raises PromptError for options of frames where there are none, and of pictures for frames.
    """
    still = StillLimits(asked.still_pixels, asked.still_features)
    if frames is None and still != StillLimits():
        problem = "still_pixels and still_features are for frames of a scene, found pictures"
        raise PromptError(problem, "ask about Frames(pictures, seconds), or leave them out")
    if frames is not None and asked.first_token_share is not None:
        problem = "first_token_share is for pictures, found frames of a scene"
        raise PromptError(problem, "leave it out; still_pixels drops what did not change")
    return still
