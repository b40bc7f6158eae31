"""Pixels, features, logits and ids of every family are those of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pictures import noise

from parity.loop import PICTURE, Loop
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.reduction import reduce_tokens

if TYPE_CHECKING:
    from parity.conftest import Measure
    from parity.reference import Reference
    from vpt_edge.runtime import Bundle

    Array = np.ndarray[Any, Any]

SIZES = (  # windows of 112 pixels: whole, cut at the right, below, at both; thin; larger than shown
    *((224, 224), (150, 90), (300, 224), (224, 330), (640, 480)),
    *((28, 400), (700, 30), (1288, 966), (333, 517), (56, 56), (3, 5)),
)
FEATURES = 1e-5  # of the largest value
LOGITS = 5e-4
OPENING = f"<|im_start|>user\n{PICTURE}What is this?<|im_end|>\n<|im_start|>assistant\n"
LOOK = f"<|im_end|>\n<|im_start|>user\n{PICTURE}And here?<|im_end|>\n<|im_start|>assistant\n"
TOKENS = 4  # of an answer


def relative(found: Array, expected: Array) -> float:
    """The largest difference over the largest value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_equal_to_the_bit(
    size: tuple[int, int], family: str, bundle: Bundle, reference: Reference, measure: Measure
) -> None:
    picture = noise(*size)
    patches = open_tower(bundle.manifest).preprocess(picture, bundle.manifest.image)
    expected, grids = reference.pixels([picture])
    assert [patches.grid] == [tuple(grid) for grid in grids.tolist()]
    measure(family, "pixels", float(np.abs(patches.values - expected).max()), 0)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_features_are_alike(
    size: tuple[int, int], family: str, loop: Loop, reference: Reference, measure: Measure
) -> None:
    picture = noise(*size)
    encoded = loop.encode(picture)
    features, deep = reference.features(picture)
    difference = relative(encoded.features, features)
    measure(family, "features, of the largest", difference, FEATURES)
    assert (encoded.deep is None) == (deep is None)
    if encoded.deep is not None and deep is not None:
        for level, expected in zip(encoded.deep, deep, strict=True):
            difference = relative(level, expected)
            measure(family, "deep features, of the largest", difference, FEATURES)


@pytest.mark.parametrize("size", SIZES[:5], ids=str)
def test_a_second_round_goes_on_from_the_cache(
    size: tuple[int, int], family: str, loop: Loop, reference: Reference, measure: Measure
) -> None:
    pictures = [noise(*size), noise(size[1], 140)]
    loop.say(OPENING, loop.encode(pictures[0]))
    prompt = list(loop.context.ids)
    expected = reference.logits(prompt, pictures[:1])[-1]
    first = float(np.abs(loop.prefill() - expected).max())
    measure(family, "logits of the first round", first, LOGITS)
    generated = loop.generate(TOKENS)
    assert generated == reference.generate(prompt, pictures[:1], TOKENS)
    computed = len(loop.context.ids)
    loop.say(LOOK, loop.encode(pictures[1]))
    loop.decoder.begin()
    logits = loop.prefill()
    assert loop.decoder.reused_tokens == computed
    expected = reference.logits(loop.context.ids, pictures)[-1]
    second = float(np.abs(logits - expected).max())
    measure(family, "logits of the second, on one cache", second, LOGITS)
    prompt = list(loop.context.ids)
    assert loop.generate(TOKENS) == reference.generate(prompt, pictures, TOKENS)


@pytest.mark.parametrize("share", [0.75, 0.5])
def test_dropped_tokens_are_as_if_nobody_saw_them(
    share: float, family: str, loop: Loop, reference: Reference, measure: Measure
) -> None:
    """In the first round and, on its cache, in the second, whose picture is whole."""
    pictures = [noise(400, 360), noise(140, 200)]
    whole = loop.encode(pictures[0])
    part = reduce_tokens(whole, share)
    assert part.places is not None and part.tokens < 0.8 * whole.tokens
    loop.say(OPENING, part)
    start = loop.context.visuals[0].start
    pad = loop.context.ids[start]
    unseen = sorted({*range(whole.tokens)} - {*part.places.tolist()})
    places = [start + place for place in unseen]

    def expect(count: int) -> Array:
        ids = loop.context.ids
        full = [*ids[:start], *[pad] * whole.tokens, *ids[start + part.tokens :]]
        return reference.logits_without(full, pictures[:count], places)[-1]

    first = float(np.abs(loop.prefill() - expect(1)).max())
    measure(family, "logits behind a reduced picture", first, LOGITS)
    for _ in range(TOKENS):
        token = int(expect(1).argmax())
        assert loop.generate(1) == [token]
    loop.say(LOOK, loop.encode(pictures[1]))
    loop.decoder.begin()
    logits = loop.prefill()
    assert loop.decoder.reused_tokens > part.tokens
    second = float(np.abs(logits - expect(2)).max())
    measure(family, "logits behind it and a look, on one cache", second, LOGITS)
