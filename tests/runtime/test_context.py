"""Visual tokens in their places, and where two contexts begin to differ in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vpt_edge.runtime.context import Context, Encoded, Visual, first_difference


def encode(tokens: int = 6) -> Encoded:
    return Encoded(np.zeros((tokens, 4), np.float32), (1, 4, tokens))


PICTURE = encode()
CROP = encode(2)
FIRST = Visual(10, PICTURE)
SECOND = Visual(20, CROP)
ANOTHER = Visual(10, encode())
MOVED = Visual(12, PICTURE)


def test_a_visual_ends_behind_its_tokens() -> None:
    assert (PICTURE.tokens, FIRST.start, FIRST.end) == (6, 10, 16)


def test_a_context_begins_empty_and_alone() -> None:
    context = Context()
    context.ids.append(1)
    context.visuals.append(FIRST)
    assert Context() == Context([], [])


@pytest.mark.parametrize(
    ("visuals", "others", "expected"),
    [
        ([], [], None),
        ([FIRST], [FIRST], None),
        ([FIRST, SECOND], [FIRST, SECOND], None),
        ([FIRST], [replace(FIRST)], None),  # the same tokens in the same place
        ([FIRST], [ANOTHER], 10),  # of the same grid, with the same features
        ([FIRST, SECOND], [ANOTHER, SECOND], 10),
        ([FIRST, SECOND], [FIRST, Visual(20, encode(2))], 20),
        ([FIRST, SECOND], [FIRST, Visual(20, PICTURE)], 20),
        ([FIRST], [MOVED], 10),  # text stands where the other has its first tokens
        ([FIRST, SECOND], [FIRST, Visual(18, CROP)], 18),
        ([FIRST, SECOND], [FIRST], 20),
        ([FIRST, SECOND], [], 10),
        ([SECOND], [FIRST, SECOND], 10),
        ([FIRST, SECOND, Visual(30, PICTURE)], [FIRST], 20),
    ],
)
def test_contexts_differ_from_their_first_other_visual_on(
    visuals: list[Visual], others: list[Visual], expected: int | None
) -> None:
    assert first_difference(visuals, others) == expected
    assert first_difference(others, visuals) == expected
