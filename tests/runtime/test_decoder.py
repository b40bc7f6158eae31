"""Prefill, step and visual tokens in their places over sessions without a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contexts import A, B, C, D, Ids, ids_of, in_chunks, open_decoder, picture, read, reencode

from vpt_edge.runtime.context import Context, Visual
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.manifest import Tensor
from vpt_edge.runtime.sampler import Sampler
from vpt_edge.runtime.testing import ScriptedSession, tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.decoder import Decoder

LAYOUTS = ["shared", "appended"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"), capacity=64)


@pytest.fixture(scope="module")
def ids(bundle: Bundle) -> Ids:
    return ids_of(bundle)


@pytest.fixture
def session(bundle: Bundle) -> ScriptedSession:
    """Its ``hidden`` is the number of the run, in every place."""
    return ScriptedSession(bundle, "decoder", [[]] * 9)


@pytest.fixture
def decoder(bundle: Bundle, session: ScriptedSession) -> Decoder:
    return open_decoder(bundle, session)


def test_each_token_is_computed_once(decoder: Decoder, session: ScriptedSession) -> None:
    context = Context([A, B, C])
    decoder.prefill(context)
    for token in (D, A):
        context.ids.append(token)
        decoder.step(token)
    context.ids += [B, C]
    decoder.prefill(context)
    assert read(session) == [[A, B, C], [D], [A], [B, C]]
    assert (decoder.computed_tokens, decoder.reused_tokens) == (7, 5)
    assert decoder.remaining == 64 - 7


def test_the_logits_are_the_sessions(bundle: Bundle) -> None:
    decoder = open_decoder(bundle, ScriptedSession(bundle, "decoder", [[C, D]]))
    assert np.argmax(decoder.prefill(Context([A, B]))) == C
    assert np.argmax(decoder.step(C)) == D


def test_a_long_prompt_goes_in_chunks(bundle: Bundle, session: ScriptedSession) -> None:
    open_decoder(in_chunks(bundle, 2), session).prefill(Context([A, B, C, D, A]))
    assert read(session) == [[A, B], [C, D], [A]]


class Picking(ScriptedSession):
    """A graph that finds the likeliest token itself; ``asked`` is what was wanted of it."""

    def run(self, inputs: Any, outputs: Any) -> None:
        self.asked = set(outputs)
        super().run(inputs, {"logits": np.empty((1, 400)), **outputs})
        if "token" in outputs:
            outputs["token"][0] = D


def picking_decoder(bundle: Bundle, session: Picking) -> Decoder:
    return open_decoder(in_chunks(bundle, 9, (Tensor("token", "int64", (1,)),)), session)


def test_a_greedy_request_needs_no_logits(bundle: Bundle) -> None:
    session = Picking(bundle, "decoder", [[C]])
    decoder = picking_decoder(bundle, session)
    decoder.begin(greedy=True)
    scores = decoder.prefill(Context([A, B]))
    assert scores == D
    assert Sampler(0, None, None, None).choose(scores) == D
    assert session.asked & {"logits", "token"} == {"token"}


def test_another_request_gets_the_logits(bundle: Bundle) -> None:
    session = Picking(bundle, "decoder", [[C]])
    decoder = picking_decoder(bundle, session)
    decoder.begin(greedy=False)
    scores = decoder.prefill(Context([A, B]))
    assert np.argmax(scores) == C
    assert Sampler(0, None, None, None).choose(scores) == C
    assert session.asked & {"logits", "token"} == {"logits"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_run_writes_behind_the_one_before(layout: str, bundle: Bundle) -> None:
    cache = replace(bundle.manifest.cache, layout=layout)
    bundle = replace(bundle, manifest=replace(bundle.manifest, cache=cache))
    session = ScriptedSession(bundle, "decoder", [[]] * 9)
    decoder = open_decoder(bundle, session)
    decoder.prefill(Context([A, B, C]))
    decoder.step(D)
    if layout == "shared":
        assert [call["total_sequence_length"].item() for call in session.calls] == [3, 4]
    else:
        assert [call["filled"].item() for call in session.calls] == [0, 3]
        assert [output["present.0.key"].shape[1] for output in session.outputs] == [3, 1]


def test_steps_go_on_behind_a_pictures_positions(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    visual = Visual(1, picture(4, 6, 500))
    decoder.prefill(Context([A, *[ids.pad] * 6, B], [visual]))
    decoder.step(C)
    angle = np.arctan2(session.calls[1]["sin"], session.calls[1]["cos"])[0, 0]
    assert angle == pytest.approx(5 - 2 * np.pi)  # 1 text, 3 columns, 1 text, then this


def test_prefill_stops_in_front_of_an_action(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    decoder.prefill(Context([A, ids.start, ids.action, B, C]))
    first, second = session.calls
    assert read(session)[0] == [A, ids.start]
    assert second["embeds"].shape == (1, 3, 4)
    np.testing.assert_array_equal(second["embeds"][0, 0], session.outputs[0]["hidden"][0])
    assert read(session)[1][1:] == [B, C]
    assert first["total_sequence_length"] == 2


def test_a_generated_action_takes_the_state_before_it(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    decoder.prefill(Context([A, ids.start]))
    decoder.step(ids.action)
    np.testing.assert_array_equal(session.calls[1]["embeds"][0, 0], session.outputs[0]["hidden"][0])


def test_a_perception_without_an_action_stops_nowhere(
    bundle: Bundle, session: ScriptedSession, ids: Ids
) -> None:
    alignment: dict[str, Any] = {"action": None, "action_start": None, "triggers": []}
    perception = {**bundle.manifest.perception, **alignment}
    decoder = open_decoder(
        replace(bundle, manifest=replace(bundle.manifest, perception=perception)), session
    )
    decoder.prefill(Context([A, ids.start, ids.action, B]))
    assert read(session) == [[A, ids.start, ids.action, B]]


def test_features_stand_in_their_places(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    visuals = [Visual(1, picture(2, 2, 500)), Visual(3, picture(2, 4, 600))]
    context = Context([A, ids.pad, B, ids.pad, ids.pad, C], visuals)
    decoder.prefill(context)
    assert read(session) == [[A, 500, B, 600, 601, C]]
    np.testing.assert_array_equal(session.calls[0]["embeds"][0, 1], [500] * 4)
    context.ids += [ids.pad, D]
    context.visuals.append(Visual(6, picture(2, 2, 700)))
    decoder.prefill(context)
    assert read(session)[1] == [700, D]


def test_a_pad_that_is_spelled_out_takes_no_features(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    """It is a word like others: the features behind it keep their places."""
    context = Context([ids.pad, A, ids.pad, ids.pad, B], [Visual(2, picture(2, 4, 500))])
    decoder.prefill(context)
    assert read(session) == [[ids.pad, A, 500, 501, B]]


def test_reencoded_features_pass_the_projector_with_their_condition(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    pad = ids.reencode_pad
    context = Context([A, ids.start, ids.action, pad, pad, B], [Visual(3, reencode(2, 500))])
    decoder.prefill(context)
    # Condition 1: the first run's state.
    assert read(session) == [[A, ids.start], [1, 600, 601, B]]
    context.ids += [ids.start, ids.action, pad, pad, C]
    context.visuals.append(Visual(8, reencode(2, 700)))
    decoder.prefill(context)
    assert read(session)[2:] == [[ids.start], [3, 1000, 1001, C]]  # condition 3


def test_the_condition_is_the_last_actions_though_it_was_computed_before(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    decoder.prefill(Context([A, ids.start]))
    decoder.step(ids.action)
    decoder.step(D)
    visual = Visual(4, reencode(1, 500))
    decoder.prefill(Context([A, ids.start, ids.action, B, ids.reencode_pad], [visual]))
    assert read(session) == [[A, ids.start], [1], [D], [B, 600]]
    assert decoder.reused_tokens == 3


def test_a_picture_is_not_projected(decoder: Decoder, session: ScriptedSession, ids: Ids) -> None:
    visual = Visual(3, picture(2, 2, 500))
    decoder.prefill(Context([A, ids.start, ids.action, ids.pad, B], [visual]))
    assert read(session) == [[A, ids.start], [1, 500, B]]


def test_too_long_a_prompt_names_the_command_for_more(
    decoder: Decoder, session: ScriptedSession
) -> None:
    decoder.prefill(Context([A] * 64))
    assert decoder.remaining == 0
    with pytest.raises(
        PromptError, match=r"65 tokens, the cache takes 64; .*vpt-export .* --cache-tokens"
    ) as error:
        decoder.prefill(Context([A] * 65))
    assert "\n" not in str(error.value)
    assert len(session.calls) == 1
    with pytest.raises(PromptError):
        decoder.step(A)
