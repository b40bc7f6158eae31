"""Supervision of single tokens, which is not part of the checkpoint."""

from __future__ import annotations

import torch
from signs.truth import COLUMNS, NO_LETTER
from torch import Tensor, nn

from vpt_edge.live.scenes import COLOURS, GRID
from vpt_edge.live.signs.sign import KINDS
from vpt_edge.live.signs.words import LONGEST


class Heads(nn.Module):
    """What a visual token holds.

    ``letter``: the letter in each of its columns. ``slot``: how likely each character of the text
    is in it, and ``character``: which one that is, by its number in the text. ``place``: its row
    and column in the view. ``colour``, ``kind``: of the sign of which it holds letters. ``named``:
    the row and column of what a word of the question names.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.letter = nn.Linear(hidden, COLUMNS * (NO_LETTER + 1))
        self.slot = nn.Linear(hidden, LONGEST)
        self.behind = nn.Parameter(torch.zeros(LONGEST))  # of a text that is shorter
        self.character = nn.Linear(hidden, LONGEST * NO_LETTER)
        self.place = nn.Linear(hidden, 2 * GRID)
        self.colour = nn.Linear(hidden, len(COLOURS) + 1)
        self.kind = nn.Linear(hidden, len(KINDS) + 1)
        self.named = nn.Linear(hidden, 2 * GRID)

    def letters(self, features: Tensor) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens, COLUMNS, letters and none)."""
        return self.letter(features).unflatten(-1, (COLUMNS, NO_LETTER + 1))

    def slots(self, features: Tensor) -> Tensor:
        """(batch, tokens, hidden) -> (batch, LONGEST, tokens and behind)."""
        found = self.slot(features).transpose(1, 2)
        behind = self.behind[None, :, None].expand(len(features), -1, 1)
        return torch.cat((found, behind), -1)

    def characters(self, features: Tensor, tokens: Tensor) -> Tensor:
        """The characters (batch, LONGEST, letters) that stand in ``tokens`` (batch, LONGEST)."""
        every = self.character(features).unflatten(-1, (LONGEST, NO_LETTER))
        row = torch.arange(len(features), device=features.device)[:, None]
        slot = torch.arange(LONGEST, device=features.device)
        return every[row, tokens.clamp(0, features.shape[1] - 1), slot]
