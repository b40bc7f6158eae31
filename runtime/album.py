"""What one request shows: its pictures, and what is looked at in them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from vpt_edge.runtime.image import resize
from vpt_edge.runtime.perception.actions import Crop, Whole
from vpt_edge.runtime.perception.views import View
from vpt_edge.runtime.reduction import reduce_tokens
from vpt_edge.runtime.result import Looked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from vpt_edge.runtime.chat import Message
    from vpt_edge.runtime.context import Encoded
    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.perception.actions import PerceptionAction
    from vpt_edge.runtime.stopwatch import Stopwatch
    from vpt_edge.runtime.view_limits import ViewLimits
    from vpt_edge.runtime.vision import PictureFeatures, Vision


class Album:
    """The views of a request, in the order in which they are shown, and their visual tokens.

    ``limits``: the pixels of each picture and of each look. ``share``: of the visual tokens of each
    first view, those that are shown.
    """

    def __init__(
        self,
        pictures: Sequence[PictureFeatures],
        vision: Vision,
        perception: Perception,
        limits: ViewLimits,
        share: float = 1.0,
    ) -> None:
        self.views: list[View] = []
        self.encoded: list[Encoded] = []
        self._images: list[Image.Image] = []  # of the views, in their own pixels
        self._wholes: list[Encoded] = []  # the first views, before they are reduced
        self._pictures = pictures
        self._vision = vision
        self._perception = perception
        self._limits = limits
        self._share = share

    @property
    def count(self) -> int:
        """How many places a question has for what is shown."""
        return len(self._pictures)

    @property
    def pictures(self) -> list[Image.Image]:
        """As they were given."""
        return [features.picture for features in self._pictures]

    @property
    def dropped_tokens(self) -> int:
        """How many visual tokens of what was shown the language model was not given."""
        dropped = 0
        for encoded in self.encoded:
            if encoded.places is not None:
                dropped += self._vision.count_tokens(encoded) - encoded.tokens
        return dropped

    def place(self, messages: list[Message]) -> list[Message]:
        """``messages`` with a placeholder for each picture, as they are to be shown."""
        return messages

    def outline(self) -> list[Encoded]:
        """The first views as they will be, with visual tokens that are not computed yet.

        Raises ImageError for a picture that cannot be shown.
        """
        outlines = []
        for features in self._pictures:
            size = features.picture.size
            first = self._perception.first_size(size) or size
            outline = self._vision.outline(first, self._limits.first(first))
            outlines.append(reduce_tokens(outline, self._share))
        return outlines

    def begin(self, stopwatch: Stopwatch) -> None:
        """Show the pictures, encoded unless an earlier question has done that."""
        resampling = self._perception.first_resampling
        for index, features in enumerate(self._pictures):
            size = features.picture.size
            first = self._perception.first_size(size)
            limits = self._limits.first(first or size)
            whole = features.encode(stopwatch, limits, first, resampling)
            self._wholes.append(whole)
            self._add_picture(index, features.reduce(whole, self._share, stopwatch))

    def outline_look(self, action: PerceptionAction) -> Encoded:
        """What the look of ``action`` adds, without its values.

        Raises ImageError for a crop that cannot be shown.
        """
        if isinstance(action, Crop):
            left, top, right, bottom = action.box
            size = action.size or (right - left, bottom - top)
            return self._vision.outline(size, self._limits.look(size, action.limits))
        if isinstance(action, Whole):
            size = self._pictures[action.picture].picture.size
            return self._vision.outline(size, self._limits.look(size))
        return self._vision.outline_reencode(self._wholes[0])

    def look(self, action: PerceptionAction, stopwatch: Stopwatch) -> Looked:
        """Show what ``action`` looks at."""
        if isinstance(action, Crop):
            return self._look_at(action, stopwatch)
        if isinstance(action, Whole):
            features = self._pictures[action.picture]
            limits = self._limits.look(features.picture.size)
            encoded = features.encode(stopwatch, limits)
            self._add_picture(action.picture, encoded)
            return Looked(action, encoded.tokens, picture=action.picture)
        encoded = self._pictures[0].reencode(self._wholes[0], stopwatch)
        self._add(encoded, self._images[0], self.views[0])
        return Looked(action, encoded.tokens)

    def _look_at(self, action: Crop, stopwatch: Stopwatch) -> Looked:
        source = self.views[action.source]
        crop = self._images[action.source].crop(action.box)
        if action.size is not None:
            crop = resize(crop, action.size, action.resampling)
        limits = self._limits.look(crop.size, action.limits)
        encoded = self._vision.encode(crop, stopwatch, limits)
        box = box_in_picture(action.box, source)
        shown = self._vision.shown_size(encoded)
        self._add(encoded, crop, View(source.picture, box, crop.size, shown))
        area = None if box == action.box else box
        return Looked(action, encoded.tokens, crop, source.picture, area)

    def _add_picture(self, index: int, encoded: Encoded) -> None:
        self._add_view(index, encoded)
        self.encoded.append(encoded)

    def _add_view(self, index: int, encoded: Encoded) -> None:
        """A view of a whole picture, as it was ``encoded``."""
        picture = self._pictures[index].picture
        box = (0, 0, picture.width, picture.height)
        self.views.append(View(index, box, picture.size, self._vision.shown_size(encoded)))
        self._images.append(picture)

    def _add(self, encoded: Encoded, image: Image.Image, view: View) -> None:
        self.views.append(view)
        self.encoded.append(encoded)
        self._images.append(image)


def box_in_picture(box: Box, view: View) -> Box:
    """``box``, in the own pixels of ``view``, in those of the picture that it shows.

    All of what it shows is in it, where a pixel of one is no whole number of the other's.
    """
    left, top, right, bottom = view.box
    across = Fraction(right - left, max(1, view.size[0]))
    down = Fraction(bottom - top, max(1, view.size[1]))
    return (
        left + math.floor(box[0] * across),
        top + math.floor(box[1] * down),
        left + math.ceil(box[2] * across),
        top + math.ceil(box[3] * down),
    )
