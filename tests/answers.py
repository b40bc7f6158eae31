"""Answers that no model gave."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from sources import BLACK, frame

from vpt_edge.live.seen import Seen
from vpt_edge.runtime import Answer, Crop, Looked
from vpt_edge.runtime.result import Usage

USAGE = Usage(100, 5, 105, 0, 1, 0, {"total": 0.25}, (0.1,))


def answer(text: str = "yes", pixels: Any = BLACK, *boxes: tuple[int, int, int, int]) -> Answer:
    """``text``, after looks at ``boxes`` of the picture."""
    picture = Image.fromarray(pixels)
    looks = []
    for box in boxes:
        looks.append(Looked(Crop((1, 2, 3, 4), box), 6, picture.crop(box)))
    return Answer(text, text, (), tuple(looks), "stop", USAGE, "Open?", picture)


def seen(number: int = 0, text: str = "yes", question: str = "Open?", **rest: Any) -> Seen:
    """An answer about the frame ``number``, which is black."""
    shown = frame(number, **rest)
    return Seen(shown, question, answer(text, np.asarray(shown.pixels)), 0.1, 0.4)
