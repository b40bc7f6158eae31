"""Deep features of a picture's tokens stand in their places, and a step costs nothing for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contexts import A, B, C, D, features, in_chunks, open_decoder

from vpt_edge.runtime.context import Context, Encoded, Visual
from vpt_edge.runtime.perception.none import NoneConfig, block
from vpt_edge.runtime.testing import HIDDEN, LEVELS, ScriptedSession, tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle

PLAIN = block(NoneConfig(None, None))


class Keeping(ScriptedSession):
    """``bound`` are the very arrays that it was given as deep features."""

    def run(self, inputs: Any, outputs: Any) -> None:
        self.bound = [*getattr(self, "bound", []), inputs["deep"]]
        super().run(inputs, outputs)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    return tiny_bundle(folder, capacity=64, model="qwen3_vl", perception=PLAIN)


@pytest.fixture
def session(bundle: Bundle) -> Keeping:
    return Keeping(bundle, "decoder", [[]] * 9)


def picture(first: int) -> Encoded:
    """Two visual tokens; their deep features are tens of their numbers, hundreds on the second
    level.
    """
    shown = features(2, first)
    return Encoded(shown, (1, 2, 4), np.stack((10 * shown, 100 * shown)))


def asked(bundle: Bundle) -> Context:
    pad = bundle.manifest.tokens.image_pad
    ids = [A, pad, pad, B, pad, pad, C]
    return Context(ids, [Visual(1, picture(1)), Visual(4, picture(3))])


def first_channel(session: ScriptedSession) -> list[list[float]]:
    """What the session was given: a list for each level, of all runs one behind the other."""
    return np.concatenate([call["deep"][..., 0] for call in session.calls], axis=1).tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
def test_they_stand_where_the_picture_stands(size: int, bundle: Bundle, session: Keeping) -> None:
    open_decoder(in_chunks(bundle, size), session).prefill(asked(bundle))
    tens = [0, 10, 20, 0, 30, 40, 0]
    assert first_channel(session) == [tens, [10 * number for number in tens]]


def test_a_step_is_given_the_same_zeros_each_time(bundle: Bundle, session: Keeping) -> None:
    decoder = open_decoder(bundle, session)
    decoder.prefill(asked(bundle))
    for token in (D, A, B):
        decoder.step(token)
    steps = session.bound[1:]
    assert [array.shape for array in steps] == [(LEVELS, 1, HIDDEN)] * 3
    assert not any(array.any() for array in steps)
    assert all(array is steps[0] for array in steps)


def test_what_is_rewound_gets_them_again(bundle: Bundle, session: Keeping) -> None:
    decoder = open_decoder(bundle, session)
    context = asked(bundle)
    decoder.prefill(context)
    decoder.prefill(Context([*context.ids[:5], D], [context.visuals[0]]))
    decoder.prefill(context)
    assert session.calls[-1]["deep"][0, :, 0].tolist() == [30, 40, 0]


def test_visual_tokens_without_them_are_given_zeros(bundle: Bundle, session: Keeping) -> None:
    plain = Encoded(features(2, 1), (1, 2, 4))
    pad = bundle.manifest.tokens.image_pad
    open_decoder(bundle, session).prefill(Context([A, pad, pad], [Visual(1, plain)]))
    assert not session.calls[0]["deep"].any()
