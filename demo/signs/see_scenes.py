"""The vision encoder on whole views: where signs are in the first one, what the crop says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from signs.draw import spell
from signs.see import encode, read_slots
from signs.sizes import TOKEN, VIEW
from signs.truth import COLUMNS, NO_LETTER, find_tokens, locate_letters, own_letters
from signs.views import place_letters

from vpt_edge.live.scenes import COLOURS, GRID
from vpt_edge.live.signs.geometry import glyph_lines
from vpt_edge.live.signs.sign import KINDS
from vpt_edge.live.signs.words import LONGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from network import Network
    from numpy.typing import NDArray
    from signs.heads import Heads
    from signs.losses import Losses
    from torch import Tensor

    from vpt_edge.live.scenes import Cell
    from vpt_edge.live.signs.sign import Scene

    Look = tuple[int, Cell]

NO_COLOUR = len(COLOURS)
NO_KIND = len(KINDS)


def encode_scenes(
    network: Network, records: NDArray[Any], looked: int | None = None
) -> tuple[Tensor, Tensor]:
    """Features (batch, tokens, hidden) of the first views and of the crops, which are of one size;
    ``looked``: of how many crops, the first of them, if not of all.

    Those of one size are encoded together.
    """
    count = len(records)
    shown = int(records["shown"][0])
    crops = records["crop"][:looked, :shown, :shown]
    if shown != VIEW:
        return encode(network, records["view"]), encode(network, crops)
    features = encode(network, np.concatenate((records["view"], crops)))
    return features[:count], features[count:]


def see_scenes(
    heads: Heads,
    losses: Losses,
    features: tuple[Tensor, Tensor],
    scenes: Sequence[Scene],
    looks: Sequence[Look],
) -> None:
    """What every token of the ``features`` of first views and crops is to hold; there may be fewer
    crops than scenes.
    """
    first, crops = features
    count = len(crops)
    see_signs(heads, losses, first, scenes)
    see_texts(heads, losses, crops, scenes[:count], looks[:count])


def see_signs(heads: Heads, losses: Losses, features: Tensor, scenes: Sequence[Scene]) -> None:
    """Where each token is, and the colour and kind of the sign whose letters it holds."""
    colours = torch.full((len(scenes), GRID * GRID), NO_COLOUR)
    kinds = torch.full((len(scenes), GRID * GRID), NO_KIND)
    names = list(COLOURS)
    for row, scene in enumerate(scenes):
        for sign in scene.signs:
            column, line = sign.cell
            letters = find_tokens(glyph_lines(sign).mean(1) * TOKEN, (GRID, GRID))
            tokens = [line * GRID + column, *letters]
            colours[row, tokens] = names.index(sign.card.colour)
            kinds[row, tokens] = KINDS.index(sign.card.kind)
    losses.add("colour", heads.colour(features), colours, NO_COLOUR)
    losses.add("kind", heads.kind(features), kinds, NO_KIND)
    token = torch.arange(GRID * GRID)
    places = torch.stack((token // GRID, token % GRID), 1).expand(len(scenes), -1, -1)
    losses.add("place", heads.place(features).unflatten(-1, (2, GRID)), places)


def see_texts(
    heads: Heads,
    losses: Losses,
    features: Tensor,
    scenes: Sequence[Scene],
    looks: Sequence[Look],
) -> None:
    """The letters in each token of the crops, and the text of the sign that is looked at."""
    side = round(features.shape[1] ** 0.5)
    grid = (side, side)
    count = len(scenes)
    target = np.full((count, side * side, COLUMNS), NO_LETTER, np.int64)
    centres = np.full((count, LONGEST, 2), np.nan)
    text = np.full((count, LONGEST), -1, np.int64)
    for row, (scene, (number, cell)) in enumerate(zip(scenes, looks, strict=True)):
        for index, sign in enumerate(scene.signs):
            places = place_letters(sign, cell, side * TOKEN)
            spelled = np.array(spell(sign.card.text))
            held = locate_letters(places[None], spelled[None, : len(places)], grid)[0]
            target[row] = np.where(held == NO_LETTER, target[row], held)
            if index == number:
                centres[row, : len(places)] = places
                text[row] = spelled
    losses.add("crop letter", heads.letters(features), torch.from_numpy(target), NO_LETTER)
    read_slots(heads, losses, features, own_letters(centres, text, grid), text, "crop ")
