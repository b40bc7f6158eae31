"""What of a context is computed again: each token behind the prefix that it shares with the one
before, and no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contexts import (
    A,
    B,
    C,
    D,
    Ids,
    Remembering,
    features,
    ids_of,
    in_chunks,
    open_decoder,
    picture,
    read,
    reencode,
)
from hypothesis import example, given
from hypothesis import strategies as st

from vpt_edge.runtime.context import Context, Encoded, Visual
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.manifest import CacheConfig
from vpt_edge.runtime.testing import ScriptedSession, tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.decoder import Decoder


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


def test_a_state_that_a_failed_run_has_spoiled_is_computed_again(
    decoder: Decoder, session: ScriptedSession, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.prefill(Context([A, ids.start]))
    run = session.run

    def spoil(inputs: Any, outputs: Any) -> None:
        run(inputs, outputs)
        outputs["hidden"][...] = np.nan

    with monkeypatch.context() as patch:
        patch.setattr(session, "run", spoil)
        with pytest.raises(SessionError, match="decoder"):
            decoder.step(B)
    decoder.prefill(Context([A, ids.start, ids.action, C]))
    assert read(session)[2:] == [[ids.start], [3, C]]


def test_a_context_that_differs_rewinds_to_the_common_prefix(
    decoder: Decoder, session: ScriptedSession
) -> None:
    decoder.prefill(Context([A, B, C, D]))
    decoder.prefill(Context([A, B, D, C, C]))
    assert read(session) == [[A, B, C, D], [D, C, C]]
    assert session.calls[1]["total_sequence_length"] == 5
    assert (decoder.computed_tokens, decoder.reused_tokens) == (7, 2)


@pytest.mark.parametrize("known", [[A, B, C], [A, B]])
def test_of_a_known_context_the_last_token_is_computed_again(
    known: list[int], decoder: Decoder, session: ScriptedSession
) -> None:
    decoder.prefill(Context([A, B, C]))
    decoder.prefill(Context(known))
    assert read(session)[1] == known[-1:]


def test_tokens_behind_a_rewind_keep_their_features(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    context = Context([A, ids.pad, ids.pad], [Visual(1, picture(2, 4, 500))])
    decoder.prefill(context)
    decoder.prefill(context)  # begins in the middle of the picture
    assert read(session) == [[A, 500, 501], [501]]


def test_a_divergence_at_an_action_computes_the_state_before_it_again(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    decoder.prefill(Context([A, ids.start, B, C]))
    decoder.prefill(Context([A, ids.start, ids.action, C]))
    assert read(session) == [[A, ids.start, B, C], [ids.start], [2, C]]
    np.testing.assert_array_equal(session.calls[2]["embeds"][0, 0], session.outputs[1]["hidden"][0])


def test_an_action_right_behind_what_is_computed_takes_the_state_at_hand(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    decoder.prefill(Context([A, ids.start]))
    decoder.prefill(Context([A, ids.start, ids.action, C]))
    assert read(session) == [[A, ids.start], [1, C]]


def test_a_state_that_was_cut_off_steers_no_action(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    """Behind what is kept comes an action, but the state at hand belongs to what was cut off."""
    decoder.prefill(Context([A, B, ids.pad], [Visual(2, picture(2, 2, 500))]))
    decoder.begin()
    decoder.prefill(Context([A, B, ids.action]))
    assert read(session)[1:] == [[B], [2]]


def test_what_is_forgotten_is_computed_again(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    context = Context([A, ids.pad, B], [Visual(1, picture(2, 2, 500))])
    decoder.prefill(context)
    decoder.forget()
    assert decoder.remaining == 64
    decoder.prefill(context)
    assert read(session) == [[A, 500, B], [A, 500, B]]
    assert decoder.reused_tokens == 0


def look_again(ids: Ids, shown: Encoded, crop: Encoded) -> Context:
    """A picture, text, and a crop of it."""
    visuals = [Visual(1, shown), Visual(5, crop)]
    return Context([A, ids.pad, ids.pad, C, B, ids.pad], visuals)


def test_a_new_request_counts_anew(decoder: Decoder) -> None:
    context = Context([A, B])
    decoder.prefill(context)
    decoder.step(C)
    decoder.begin()
    assert (decoder.computed_tokens, decoder.reused_tokens) == (0, 0)
    context.ids += [C, D]
    decoder.prefill(context)
    assert (decoder.computed_tokens, decoder.reused_tokens) == (1, 3)


def test_of_another_picture_the_text_before_it_is_kept(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    """Though its features are alike, and its crops too."""
    crop = picture(2, 2, 700)
    decoder.prefill(look_again(ids, picture(2, 4, 500), crop))
    decoder.begin()
    decoder.prefill(look_again(ids, picture(2, 4, 500), crop))
    assert read(session)[1] == [500, 501, C, B, 700]
    assert (decoder.computed_tokens, decoder.reused_tokens) == (5, 1)


def test_of_the_same_picture_all_is_kept_up_to_an_earlier_questions_crop(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    shown = picture(2, 4, 500)
    decoder.prefill(look_again(ids, shown, picture(2, 2, 700)))
    decoder.begin()
    decoder.prefill(look_again(ids, shown, picture(2, 2, 800)))
    assert read(session)[1] == [800]
    assert (decoder.computed_tokens, decoder.reused_tokens) == (1, 5)


def test_of_the_same_picture_an_earlier_questions_reencode_is_computed_again(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    shown = picture(2, 2, 500)
    known = [A, ids.pad, ids.start, ids.action, *[ids.reencode_pad] * 2, B]
    for count in (1, 2):
        decoder.begin()
        decoder.prefill(Context(known, [Visual(1, shown), Visual(4, reencode(2, 600))]))
        assert read(session)[-1][-3:] == [700, 701, B]  # condition 1: the first run's state
        assert len(session.calls) == 1 + count
    assert decoder.reused_tokens == 4


def test_a_crop_of_this_question_is_computed_once(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    context = look_again(ids, picture(2, 4, 500), picture(2, 2, 700))
    decoder.prefill(context)
    context.ids += [D, ids.pad]
    context.visuals.append(Visual(7, picture(2, 2, 800)))
    decoder.prefill(context)
    assert read(session)[1] == [D, 800]


def test_a_picture_where_another_context_had_text_is_computed(
    decoder: Decoder, session: ScriptedSession, ids: Ids
) -> None:
    """A pad that was spelled out has the same id."""
    decoder.prefill(Context([A, ids.pad, B]))
    decoder.prefill(Context([A, ids.pad, B], [Visual(1, picture(2, 2, 500))]))
    decoder.prefill(Context([A, ids.pad, B]))
    assert read(session) == [[A, ids.pad, B], [500, B], [ids.pad, B]]


def test_what_a_failed_run_left_out_is_computed(
    decoder: Decoder, session: ScriptedSession, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = picture(2, 4, 500)
    context = look_again(ids, shown, picture(2, 2, 700))
    decoder.prefill(look_again(ids, picture(2, 4, 300), picture(2, 2, 400)))

    def fail(inputs: Any, outputs: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(session, "run", fail)
        with pytest.raises(MemoryError):
            decoder.prefill(context)
    decoder.prefill(context)
    assert read(session)[1] == [500, 501, C, B, 700]


ROWS_AND_COLUMNS = [(2, 2), (2, 4), (4, 6)]
# Two of each size, and two re-encodes: what another context shows in the same place.
PICTURES = {
    (rows, columns, number): picture(rows, columns, 700 + 10 * number)
    for rows, columns in ROWS_AND_COLUMNS
    for number in (0, 1)
}
# And some of the tokens of the largest, which are as many as those of another picture.
for number, places in enumerate(([0, 3, 5], [1, 2]), 2):
    PICTURES[4, 6, number] = Encoded(features(len(places), 900), (1, 4, 6), None, np.array(places))
REENCODES = {("reencode", number): reencode(3, 500 + 10 * number) for number in (0, 1)}


@dataclass
class Conversation:
    """A context that grows piece by piece."""

    ids: Ids
    context: Context = field(default_factory=lambda: Context([A, B]))

    def extend(self, pieces: list[Any]) -> None:
        for piece in pieces:
            if piece == "action":
                self.context.ids.append(self.ids.action)
            elif piece in REENCODES:
                self.context.ids += [self.ids.start, self.ids.action]
                self._show(REENCODES[piece], self.ids.reencode_pad)
            elif piece in PICTURES:
                self.context.ids.append(A)
                self._show(PICTURES[piece], self.ids.pad)
                self.context.ids.append(B)
            else:
                self.context.ids.append(piece)

    def _show(self, encoded: Encoded, pad: int) -> None:
        self.context.visuals.append(Visual(len(self.context.ids), encoded))
        self.context.ids += [pad] * encoded.tokens


texts = st.sampled_from([A, B, C, D])
pieces = st.lists(texts | st.sampled_from(["action", *REENCODES, *PICTURES]), max_size=5)
generated = st.lists(texts | st.just("action"), max_size=4)

Turn = tuple[list[Any], list[Any]]


@pytest.mark.parametrize("layout", ["shared", "appended"])
@given(
    shared=pieces,
    turns=st.lists(st.tuples(pieces, generated), min_size=1, max_size=3),
    chunk=st.sampled_from([1, 2, 5, 256]),
)
@example(shared=[], turns=[(["action", C], []), (["action", "action", D], [])], chunk=256)
@example(
    shared=[("reencode", 0)],
    turns=[([C], [D, "action"]), ([C, D, "action", (2, 4, 0)], [])],
    chunk=256,
)
@example(shared=[A], turns=[([(2, 4, 0), C], [D]), ([(2, 4, 1), C, D], [])], chunk=256)
@example(shared=[], turns=[([("reencode", 0)], []), ([("reencode", 1)], [])], chunk=2)
def test_a_kept_cache_changes_nothing(
    layout: str, shared: list[Any], turns: list[Turn], chunk: int, bundle: Bundle, ids: Ids
) -> None:
    """Whatever was computed before, in chunks however small, the model has read what one that
    begins anew reads.
    """
    manifest = replace(bundle.manifest, cache=CacheConfig(layout, "float32", 256))
    bundle = replace(bundle, manifest=manifest)
    kept = Remembering(layout)
    decoder = open_decoder(in_chunks(bundle, chunk), kept)
    for prompt, steps in turns:
        conversation = Conversation(ids)
        conversation.extend(shared + prompt)
        context = conversation.context
        logits = np.array(decoder.prefill(context))
        for step in steps:
            conversation.extend([step])
            logits = np.array(decoder.step(context.ids[-1]))
        new = Remembering(layout)
        fresh = open_decoder(bundle, new)
        expected = fresh.prefill(context)
        np.testing.assert_array_equal(kept.memory, new.memory)
        np.testing.assert_array_equal(logits, expected)
        assert fresh.computed_tokens == len(context.ids)
