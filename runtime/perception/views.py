"""What the model was shown, in the order in which it was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box, Size


@dataclass(frozen=True)
class View:
    """A picture that the model was shown: one of the request's, or what a look showed.

    Views are numbered from 0 on: the request's pictures first, then one for each look.
    ``picture``: which of the request's pictures it shows. ``box``: what of it, (left, top, right,
    bottom) in that picture's pixels. ``size``: its own pixels (width, height), of which crops are
    cut. ``shown``: the pixels in which the tower showed it.
    """

    picture: int
    box: Box
    size: Size
    shown: Size
