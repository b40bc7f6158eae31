"""Several pictures of one scene, with their moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, TypeAlias

from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.schema import brief

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Picture

Moment: TypeAlias = tuple[float, float]  # of a pair of frames: the seconds of each

MOST_FRAMES = 768  # as transformers samples of a video at most
FIX = "give each frame its moment: Frames(pictures, seconds)"


@dataclass(frozen=True)
class Frames:
    """Frames of one scene, oldest first, which are asked about in place of a picture.

        answer = pipeline.ask(runtime.Frames(pictures, [0.0, 0.5, 1.0, 1.5]), "What happens?")

    ``pictures``: of one size, each anything that a picture is given as. ``seconds``: when each was
    taken, counted from where the scene begins, and rising. A model is shown two frames at a time,
    as one: of an odd number the last one stands twice.

    Raises PromptError for other numbers of them, and moments that do not rise.
    """

    pictures: Sequence[Picture]
    seconds: Sequence[float]

    def __post_init__(self) -> None:
        for name in ("pictures", "seconds"):
            value = getattr(self, name)
            if isinstance(value, str | bytes) or not isinstance(value, Sequence):
                raise PromptError(f"{name} of the frames is {brief(value)}, expected a list", FIX)
            object.__setattr__(self, name, tuple(value))
        count = len(self.pictures)
        if count != len(self.seconds):
            raise PromptError(f"found {count} frames and {len(self.seconds)} moments", FIX)
        if not 1 <= count <= MOST_FRAMES:
            problem = f"found {count} frames, expected 1 to {MOST_FRAMES}"
            raise PromptError(problem, "ask about so many at a time")
        before = -math.inf
        for number, second in enumerate(self.seconds, 1):
            is_number = isinstance(second, Real) and not isinstance(second, bool)
            if not is_number or not 0 <= second < math.inf or second <= before:
                problem = f"the moment of frame {number} is {brief(second)}"
                raise PromptError(f"{problem}, expected seconds from 0 on that rise", FIX)
            before = second
