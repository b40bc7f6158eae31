"""What frames of a scene are: as many moments as pictures, and they rise."""

from __future__ import annotations

from typing import Any

import pytest

from vpt_edge.runtime import Frames
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.frames import MOST_FRAMES


def test_lists_are_taken_as_they_are_now() -> None:
    pictures: list[Any] = ["a.png", "b.png"]
    frames = Frames(pictures, [0, 0.5])
    pictures.append("c.png")
    assert frames == Frames(("a.png", "b.png"), (0, 0.5))


@pytest.mark.parametrize(
    ("pictures", "seconds", "problem"),
    [
        (["a"], [0.0, 1.0], "found 1 frames and 2 moments"),
        ([], [], f"found 0 frames, expected 1 to {MOST_FRAMES}"),
        (["a"] * 769, list(range(769)), "found 769 frames"),
        (["a", "b"], [1.0, 1.0], "the moment of frame 2 is 1.0, expected seconds from 0 on that"),
        (["a", "b"], [1.0, 0.5], "the moment of frame 2 is 0.5"),
        (["a"], [-1.0], "the moment of frame 1 is -1.0"),
        (["a"], [float("nan")], "the moment of frame 1 is nan"),
        (["a"], [float("inf")], "the moment of frame 1 is inf"),
        (["a"], [True], "the moment of frame 1 is True"),
        (["a"], ["0"], "the moment of frame 1 is '0'"),
        ("ab", [0.0, 1.0], "pictures of the frames is 'ab', expected a list"),
        (["a"], 0.0, "seconds of the frames is 0.0, expected a list"),
    ],
)
def test_anything_else_is_refused(pictures: Any, seconds: Any, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        Frames(pictures, seconds)
