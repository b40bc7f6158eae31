"""What a request gives: its events while it runs, and the answer at its end."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from vpt_edge.runtime.files import create_folder
from vpt_edge.runtime.perception.actions import Crop, PerceptionAction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.overlay import Region


@dataclass(frozen=True)
class Text:
    """A piece of text as it is generated; calls, thoughts and special tokens are left out.

    The pieces behind the last ``Looked`` or ``Refused`` are the answer. What may begin a text of
    ``stop``, or a tag, comes when that is decided, and never if it does.
    """

    piece: str


@dataclass(frozen=True)
class Thought:
    """A piece of what the model thinks, without its tags."""

    piece: str


@dataclass(frozen=True)
class Refused:
    """The model asked for a look that cannot be taken: ``reply`` tells it so, and it goes on."""

    reply: str


@dataclass(frozen=True)
class Looked:
    """The model looked again.

    ``tokens`` counts the visual tokens of this look; ``crop`` is what a region shows. ``picture``:
    the index of the request's picture that it shows. ``area``: the box in pixels of that picture;
    None: the action's own.
    """

    action: PerceptionAction
    tokens: int
    crop: Image.Image | None = field(default=None, repr=False, compare=False)
    picture: int = 0
    area: Box | None = None

    @property
    def kind(self) -> str:
        """``region``, ``whole``, or a re-encode's encoder: ``clip``, ``detection`` or ``seg``."""
        return self.action.kind

    @property
    def cells(self) -> Box | None:
        """(x0, y0, x1, y1) on the 8x8 grid, inclusive, before the margin.

        None for a re-encode, and for a region that the model names in pixels.
        """
        return self.action.cells if isinstance(self.action, Crop) else None

    @property
    def box(self) -> Box | None:
        """(left, top, right, bottom) in pixels of the picture; None where all of it is shown."""
        if not isinstance(self.action, Crop):
            return None
        return self.area or self.action.box

    @property
    def source(self) -> int | None:
        """The view that a region is cut from: the request's pictures from 0 on, then the looks."""
        return self.action.source if isinstance(self.action, Crop) else None

    def describe(self) -> str:
        """The look in words, such as ``looked again at cells (5,2)-(6,3), 210x190 px``."""
        which = f" of picture {self.picture + 1}" if self.picture else ""
        if self.box is None:
            return f"looked again at the whole picture{which} ({self.kind}, {self.tokens} tokens)"
        left, top, right, bottom = self.box
        size = f"{right - left}x{bottom - top} px"
        if self.cells is None:
            return f"looked again at {size} from ({left},{top}){which}"
        x0, y0, x1, y1 = self.cells
        return f"looked again at cells ({x0},{y0})-({x1},{y1}), {size}{which}"

    def to_dict(self) -> dict[str, Any]:
        """The look as JSON types, without its crop."""
        return {
            "kind": self.kind,
            "cells": _as_list(self.cells),
            "box": _as_list(self.box),
            "tokens": self.tokens,
            "picture": self.picture,
            "source": self.source,
        }


def _as_list(box: Box | None) -> list[int] | None:
    return None if box is None else list(box)


@dataclass(frozen=True)
class Turn:
    """One turn of the assistant.

    ``prompt_ids``: the whole context that it was generated from; ``generated_ids``: all that
    followed, forced action and end token included; ``text``: those ids decoded without special
    tokens, behind what the turn was made to begin with; ``logits`` (generated, vocabulary) float32
    from which each id was chosen, if they were to be kept.
    """

    prompt_ids: tuple[int, ...] = field(repr=False)
    generated_ids: tuple[int, ...] = field(repr=False)
    text: str
    logits: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The turn as JSON types, without its logits."""
        prompt = list(self.prompt_ids)
        return {
            "prompt_ids": prompt,
            "generated_ids": list(self.generated_ids),
            "text": self.text,
        }


@dataclass(frozen=True)
class Usage:
    """What the request cost.

    ``prompt_tokens``: context of the last turn; ``generated_tokens``: over all turns;
    ``computed_tokens``: tokens that the language model ran over; ``reused_tokens``: tokens of later
    turns that were in the cache already; ``draft_tokens``: tokens that drafts had computed ahead,
    which count in ``computed_tokens``, and ``accepted_tokens``: those of them that the model then
    said, each a step less; ``vision_runs`` and ``reencoder_runs``: encodes of a
    picture and of a re-encode; ``seconds`` by stage; ``first_token_seconds``: the wait for each
    turn's first token, of the first turn from the request's beginning, of a later one from the last
    token of the turn that asked for the look (what the caller does with events in between counts);
    ``dropped_tokens``: visual tokens of what was shown that the language model was not given.
    """

    prompt_tokens: int
    generated_tokens: int
    computed_tokens: int
    reused_tokens: int
    vision_runs: int
    reencoder_runs: int
    seconds: dict[str, float]
    first_token_seconds: tuple[float, ...] = ()
    dropped_tokens: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    ``text`` is the last turn without calls and thoughts, ``raw`` the last turn as the authors' code
    returns it. ``thoughts``: what the model thought in all turns, blank lines between them; None
    where it did not. ``finish_reason``: "stop" (an end token, or a text of ``stop``), "length"
    (max_new_tokens, or the cache's capacity, which may not hold a look), "look_limit" (the last
    turn asked for one more look, or for too many at once), or a case in which the authors' code
    gives up: "mixed_triggers", "malformed_region", "foreign_trigger". ``image`` is a copy of the
    picture, in its own size, the first of several; ``others`` are of the further ones.
    ``stop_sequence``: the text of ``stop`` in front of which ``text`` ends, if it came to one;
    ``raw`` and the turns are as they were generated, with that text and what the last token says
    behind it.
    """

    text: str
    raw: str
    turns: tuple[Turn, ...]
    looks: tuple[Looked, ...]
    finish_reason: str
    usage: Usage
    question: str
    image: Image.Image = field(repr=False, compare=False)
    stop_sequence: str | None = None
    thoughts: str | None = None
    others: tuple[Image.Image, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON types, as ``vpt-run --json`` prints it."""
        turns = [turn.to_dict() for turn in self.turns]
        looks = [look.to_dict() for look in self.looks]
        usage = asdict(self.usage)
        seconds = usage.pop("seconds")
        first_token_seconds = list(usage.pop("first_token_seconds"))
        return {
            "text": self.text,
            "raw": self.raw,
            "thoughts": self.thoughts,
            "finish_reason": self.finish_reason,
            "stop_sequence": self.stop_sequence,
            "turns": turns,
            "looks": looks,
            "usage": usage,
            "seconds": seconds,
            "first_token_seconds": first_token_seconds,
        }

    def regions(self) -> list[Region]:
        """The crops that the model looked at, each with its place: what an overlay marks."""
        from vpt_edge.runtime.overlay import Region

        regions = []
        for look in self.looks:
            if isinstance(look.action, Crop) and look.crop is not None:
                box = look.box or look.action.box
                regions.append(Region(look.action.cells, box, look.crop, look.picture))
        return regions

    def plot(self) -> Image.Image:
        """The picture with the grid, the chosen cells and box, and each crop as an inset."""
        from vpt_edge.runtime.overlay import draw

        looks = "; ".join(look.describe() for look in self.looks)
        captions = [
            f"Q  {self.question}",
            f"    {looks or 'answered at the first look'}",
            f"A  {self.text}",
        ]
        return draw(self.image, self.regions(), captions, self.others)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write answer.json, overlay.png and crop_N.png, in RGB as shown, into a new ``folder``.

        Raises VptError where it exists or cannot be written.
        """
        crops = [look.crop for look in self.looks if look.crop is not None]
        text = json.dumps(self.to_dict(), indent=1)
        with create_folder(folder) as beside:
            (beside / "answer.json").write_text(text + "\n", "utf-8")
            self.plot().save(beside / "overlay.png")
            for index, crop in enumerate(crops):
                if 0 not in crop.size:  # of a picture below 8 pixels
                    crop.convert("RGB").save(beside / f"crop_{index}.png")


@dataclass(frozen=True)
class Finished:
    """The last event."""

    answer: Answer


Event: TypeAlias = "Text | Thought | Looked | Refused | Finished"
