"""What a model may want to look at again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box, Size

Mode: TypeAlias = Literal["free", "region", "reencode", "off"]
Resampling: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]

GRID = 8  # cells a side, of which regions are named


@dataclass(frozen=True)
class Crop:
    """Region selection: ``cells`` (x0, y0, x1, y1), inclusive, as the model named them.

    None where the model names pixels instead. ``box`` (left, top, right, bottom) in pixels of the
    view ``source``. ``size`` (width, height): what the crop is brought to, by ``resampling``
    (nearest, bilinear, bicubic or lanczos), before the tower's own resize; None: as it is.
    ``limits``: least and most pixels of this look; None: the bundle's.
    """

    cells: Box | None
    box: Box
    source: int = 0
    size: Size | None = None
    resampling: Resampling = "bicubic"
    limits: tuple[int, int] | None = None
    kind = "region"


@dataclass(frozen=True)
class Whole:
    """A picture of the request itself, as large as it is: its first view was made smaller."""

    picture: int = 0
    kind = "whole"


@dataclass(frozen=True)
class Reencode:
    """Vision re-encoding of the whole picture by the encoder ``kind``: clip, detection or seg."""

    kind: str


PerceptionAction: TypeAlias = "Crop | Reencode | Whole"


@dataclass(frozen=True)
class Decision:
    """What a turn's text asks for.

    ``actions`` is empty when the text is the answer; ``reason`` then says why: "answer", or what is
    wrong with what it asks for, which becomes the answer's ``finish_reason``. ``reply``: the words
    that answer it, with which the conversation goes on; beside actions, what hands them back.
    """

    actions: tuple[PerceptionAction, ...]
    reason: str = "answer"
    reply: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether another turn follows."""
        return bool(self.actions) or self.reply is not None
