"""What lies in each token is told by where the letters are."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from signs.draw import Drawer
from signs.heads import Heads
from signs.losses import Losses
from signs.see import cut_windows, read_slots
from signs.sizes import TOKEN, WINDOW
from signs.truth import NO_LETTER, UNKNOWN, find_tokens, locate_letters, own_letters

CENTRES = np.array([[[3.0, 10.0], [30.0, 40.0], [55.9, 27.9], [90.0, 10.0], [np.nan, np.nan]]])
TEXT = np.array([[4, 5, 6, 7, -1]])
GRID = (2, 3)  # of tokens, 84 pixels wide


def test_every_letter_lies_in_one_token() -> None:
    assert find_tokens(CENTRES, GRID).tolist() == [[0, 4, 1, UNKNOWN, UNKNOWN]]
    letters = locate_letters(CENTRES, TEXT, GRID)
    assert letters.shape == (1, 6, 4)
    assert letters[0, 0].tolist() == [4, NO_LETTER, NO_LETTER, NO_LETTER]
    assert letters[0, 4].tolist() == [5, NO_LETTER, NO_LETTER, NO_LETTER]
    assert letters[0, 1].tolist() == [NO_LETTER, NO_LETTER, NO_LETTER, 6]
    assert (letters != NO_LETTER).sum() == 3
    assert own_letters(CENTRES, TEXT, GRID).tolist() == [[0, 4, 1, UNKNOWN, 6]]


def test_a_text_is_read_where_every_slot_is_right() -> None:
    """Features that hold what they should are read as right, and another text is not."""
    text = np.array([[0, 1, 2, -1, -1, -1, -1], [3, 4, 5, -1, -1, -1, -1]])
    owners = np.array([[1, 1, 2, 6, 6, 6, 6]] * 2)
    heads = Heads(16)
    features = torch.zeros(2, 6, 16)
    features[:, 1, 0] = 1
    features[:, 2, 1] = 1
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.zero_()
        heads.slot.weight[:2, 0] = 9
        heads.slot.weight[2, 1] = 9
        heads.behind[3:] = 9
        character = heads.character.weight.view(7, NO_LETTER, 16)
        character[0, 0, 0] = character[1, 1, 0] = character[2, 2, 1] = 9
    losses = Losses()
    read_slots(heads, losses, features, owners, text)
    assert losses.right == {"slot": 1.0, "character": 0.5, "text": 0.5}


def test_windows_keep_their_letters() -> None:

    records = Drawer(3, "test").windows(0, 6)
    pixels, centres = cut_windows(records, Random(1))
    assert pixels.shape == (6, *WINDOW, 3)
    for row in range(6):
        known = records["text"][row] >= 0
        moved = records["centres"][row, known] - centres[row, known]
        left, top = moved[0]
        assert (moved == (left, top)).all() and 0 <= left <= TOKEN and 0 <= top < TOKEN
        cut = records["pixels"][row][int(top) :, int(left) :][: WINDOW[0], : WINDOW[1]]
        assert (pixels[row] == cut).all()
        assert np.nanmax(centres[row, :, 0]) < WINDOW[1]
