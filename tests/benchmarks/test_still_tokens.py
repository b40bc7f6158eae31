"""A scene put together again from the visual tokens that were shown."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks.still_tokens import SIDE, rebuild


def test_what_changed_is_painted_and_what_did_not_stays() -> None:
    first = np.full((512, 512, 3), 120, np.uint8)
    second = first + np.uint8(1)  # a little, everywhere
    second[SIDE : 2 * SIDE, :SIDE] = 250  # the first visual token of the second row
    pictures = [Image.fromarray(each) for each in (first, second)]
    whole, none = rebuild(pictures, 0.0)
    np.testing.assert_array_equal(whole[1], second)
    assert none == 0
    rebuilt, dropped = rebuild(pictures, 0.1)
    np.testing.assert_array_equal(np.asarray(rebuilt[1])[SIDE : 2 * SIDE, :SIDE], 250)
    np.testing.assert_array_equal(np.asarray(rebuilt[1])[3 * SIDE :], 120)
    assert 0.97 < dropped < 1
