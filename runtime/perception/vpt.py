"""Trigger tokens: from the text of a turn to what the model wants to look at again (PROTOCOL 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box

GRID = 8
KINDS = ("clip", "detection", "seg")
REGION = re.compile(r"<\|region_token_start\|>((?:<\|[xy]_[0-7]\|>)+)<\|region_token_end\|>")
TRIGGER = re.compile(
    r"<\|(?:region_token_(?:start|end)|[xy]_[0-7]|(?:clip|detection|seg)_action(?:_start|_end)?)\|>"
)


@dataclass(frozen=True)
class Crop:
    """Region selection: ``cells`` (x0, y0, x1, y1), inclusive, as the model named them; ``box`` in
    pixels."""

    cells: Box
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

    ``actions`` is empty when the text is the answer; ``reason`` then says why: "answer", or one of
    the cases in which the authors' code crashes or gives up: "mixed_triggers", "malformed_region"
    (a region without any x or any y, or beside a literal placeholder) and "foreign_trigger" (an
    encoder that this checkpoint does not have)."""

    actions: tuple[Crop, ...] | tuple[Reencode]
    reason: str = "answer"


def decide(text: str, size: tuple[int, int], kind: str) -> Decision:
    """Read the triggers in ``text`` for a picture of ``size`` (width, height) and a checkpoint of
    ``kind``."""
    regions = REGION.findall(text)
    encoders = [name for name in KINDS if f"<|{name}_action_start|>" in text]
    if len(encoders) + bool(regions) > 1:
        return Decision((), "mixed_triggers")
    if encoders:
        return (
            Decision((Reencode(kind),)) if encoders == [kind] else Decision((), "foreign_trigger")
        )
    groups = [
        ({int(x) for x in re.findall(r"x_(\d)", g)}, {int(y) for y in re.findall(r"y_(\d)", g)})
        for g in regions
    ]
    if not all(xs and ys for xs, ys in groups):
        return Decision((), "malformed_region")
    cells = [(min(xs), min(ys), max(xs), max(ys)) for xs, ys in groups]
    return Decision(tuple(Crop(group, crop_box(group, size)) for group in cells))


def crop_box(cells: Box, size: tuple[int, int]) -> Box:
    """(left, top, right, bottom) in pixels of ``cells`` and a margin of one cell, for a picture of
    ``size``."""
    (x0, y0, x1, y1), (width, height) = cells, size
    left, top = max(x0 - 1, 0), max(y0 - 1, 0)
    right, bottom = min(x1 + 1, GRID - 1) + 1, min(y1 + 1, GRID - 1) + 1
    return (
        int(left * width / GRID),
        int(top * height / GRID),
        int(right * width / GRID),
        int(bottom * height / GRID),
    )


def without_triggers(text: str) -> str:
    """``text`` as a person wants to read it."""
    return TRIGGER.sub("", text).strip()
