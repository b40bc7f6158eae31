"""The few photographs of training, in more colours and turned."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.live.signs.grounds import Grounds

if TYPE_CHECKING:
    from numpy.typing import NDArray


class VariedGrounds(Grounds):
    """Each number gives a photograph with its channels in another order, turned by quarters, or as
    a negative: a network that learns on seven sees signs on grounds of every colour.
    """

    def open(self, number: int, side: int) -> NDArray[np.uint8]:
        picture = super().open(number, side)
        rng = Random(number)
        turned = np.rot90(picture, rng.randrange(4))
        varied = np.empty_like(turned)
        for channel, source in enumerate(rng.sample(range(3), 3)):
            varied[..., channel] = turned[..., source]
        if rng.random() < 0.5:
            np.invert(varied, out=varied)
        return varied
