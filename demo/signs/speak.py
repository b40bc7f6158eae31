"""The language model: conversations about scenes, on what the vision encoder makes of them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from vpt_edge.live.signs.questions import ASK, FORMS, Sample, read_question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from signs.conversation import Conversations
    from torch import Tensor

    from vpt_edge.live.scenes import Cell
    from vpt_edge.live.signs.sign import Scene

    Look = tuple[int, Cell]


def speak(
    conversations: Conversations,
    crops: Tensor,
    scenes: Sequence[Scene],
    looks: Sequence[Look],
    rng: Random,
) -> None:
    """A question of every kind about each scene; a text is read with a look and without."""
    read = ask_looked(scenes, looks, rng.randrange(FORMS))
    cells = [cell for _, cell in looks]
    conversations.look(read, cells, crops)
    conversations.reencode(ask(scenes, rng, "place"))
    conversations.answer("what colour", ask(scenes, rng, "colour"), 1)
    conversations.answer("is there", ask(scenes, rng, "there"), 0)
    conversations.answer("read at once", ask(scenes, rng, "read"), 0)


def ask(scenes: Sequence[Scene], rng: Random, kind: str) -> list[Sample]:
    """One question of a kind and form about each scene."""
    form = rng.randrange(FORMS)
    return [ASK[kind](scene, rng, form) for scene in scenes]


def ask_looked(scenes: Sequence[Scene], looks: Sequence[Look], form: int) -> list[Sample]:
    """What the sign says that each look was made at."""
    samples = list[Sample]()
    for scene, (number, _) in zip(scenes, looks, strict=True):
        sign = scene.signs[number]
        samples.append(Sample(read_question(sign, form), sign.card.text, "region", sign))
    return samples
