"""What a model may want to look at again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box

Mode: TypeAlias = Literal["free", "region", "reencode", "off"]

GRID = 8  # cells a side, of which regions are named


@dataclass(frozen=True)
class Crop:
    """Region selection: ``cells`` (x0, y0, x1, y1), inclusive, as the model named them.

    None where the model names pixels instead. ``box`` (left, top, right, bottom) in pixels of the
    picture.
    """

    cells: Box | None
    box: Box
    kind = "region"


@dataclass(frozen=True)
class Reencode:
    """Vision re-encoding of the whole picture by the encoder ``kind``: clip, detection or seg."""

    kind: str


PerceptionAction: TypeAlias = "Crop | Reencode"


@dataclass(frozen=True)
class Decision:
    """What a turn's text asks for.

    ``actions`` is empty when the text is the answer; ``reason`` then says why: "answer", or what is
    wrong with what it asks for, which becomes the answer's ``finish_reason``.
    """

    actions: tuple[PerceptionAction, ...]
    reason: str = "answer"
