"""Drafts over real graphs: what is said is what is said without, to the last id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.context import Context
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vpt_edge.runtime import Bundle

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
QUESTION = "Repeat: the quick brown fox jumps over the lazy dog, the quick brown fox"
TOKENS = 60


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"temperature": 0.1, "seed": 3}], ids=["greedy", "drawn"])
def test_a_family_says_the_same(
    family: str, options: dict[str, Any], family_bundle: Callable[[str, str, str], Bundle]
) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (90, 150, 3), np.uint8)
    with Pipeline(family_bundle(family, "fp32", "onnxruntime")) as pipeline:
        answers = []
        for draft_tokens in (0, 8):
            pipeline.forget()
            answer = pipeline.ask(
                picture, QUESTION, max_new_tokens=TOKENS, draft_tokens=draft_tokens, **options
            )
            answers.append(answer)
    plain, drafted = answers
    assert drafted.turns == plain.turns
    assert drafted.usage.draft_tokens > 0


def read(bundle: Bundle, ids: list[int], drafted: bool) -> NDArray[np.float32]:
    """The logits behind each of ``ids``, of a step each or of one pass."""
    session = open_session(bundle, "decoder", "cpu")
    perception = open_perception(bundle.manifest)
    decoder = Decoder(bundle, perception, session, lambda features, condition: features)
    decoder.prefill(Context([5, 6, 7, 8]))
    rows = []
    if drafted:
        rows.append(np.array(decoder.step(ids[0], ids[1:])))
        for token in ids[1:]:
            scores = decoder.accept(token)
            assert scores is not None
            rows.append(np.array(scores))
    else:
        rows += [np.array(decoder.step(token)) for token in ids]
    session.close()
    return np.stack(rows)


@pytest.mark.parametrize("count", [2, 5, 16])
def test_in_int8_each_position_is_the_same_to_the_bit(
    count: int, family_bundle: Callable[[str, str, str], Bundle]
) -> None:
    bundle = family_bundle("qwen2_vl", "int8", "onnxruntime")
    ids = np.random.default_rng(count).integers(0, 200, count).tolist()
    np.testing.assert_array_equal(read(bundle, ids, drafted=True), read(bundle, ids, drafted=False))
