"""Prefill, step, feature splice and sampling over sessions without a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vpt_edge.runtime.context import Context
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.manifest import CacheConfig, Tensor
from vpt_edge.runtime.sampler import Sampler
from vpt_edge.runtime.testing import ScriptedSession, tiny_bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.manifest import Tokens

    Floats = NDArray[np.float32]

A, B, C, D = 10, 11, 12, 13  # text
LAYOUTS = ["shared", "appended"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"), capacity=64)


@pytest.fixture(scope="module")
def tokens(bundle: Bundle) -> Tokens:
    return bundle.manifest.tokens


@pytest.fixture
def session(bundle: Bundle) -> ScriptedSession:
    """Its ``hidden`` is the number of the run, in every place."""
    return ScriptedSession(bundle, "decoder", [[]] * 9)


def add(features: Floats, condition: Floats) -> Floats:
    return features + 100 * condition


@pytest.fixture
def decoder(bundle: Bundle, session: ScriptedSession) -> Decoder:
    return Decoder(bundle, session, add)


def read(session: ScriptedSession) -> list[list[int]]:
    """The first number of each embedding of each run: an id, unless something stands in its place."""
    return [call["embeds"][0, :, 0].astype(int).tolist() for call in session.calls]


def features(count: int, start: int) -> Floats:
    return np.repeat(np.arange(start, start + count, dtype=np.float32)[:, None], 4, axis=1)


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
    assert decoder.room == 64 - 7


def test_the_logits_are_the_sessions(bundle: Bundle) -> None:
    decoder = Decoder(bundle, ScriptedSession(bundle, "decoder", [[C, D]]), add)
    assert np.argmax(decoder.prefill(Context([A, B]))) == C
    assert np.argmax(decoder.step(C)) == D


def in_pieces(bundle: Bundle, size: int, outputs: tuple[Tensor, ...] = ()) -> Bundle:
    """``bundle`` with a decoder graph that takes ``size`` tokens at once."""
    graph = replace(bundle.graph("decoder"), bounds={"sequence": (1, size, size)}, outputs=outputs)
    return replace(
        bundle,
        manifest=replace(bundle.manifest, graphs={**bundle.manifest.graphs, "decoder": graph}),
    )


def test_a_long_prompt_goes_in_pieces(bundle: Bundle, session: ScriptedSession) -> None:
    Decoder(in_pieces(bundle, 2), session, add).prefill(Context([A, B, C, D, A]))
    assert read(session) == [[A, B], [C, D], [A]]


class Picking(ScriptedSession):
    """A graph that finds the likeliest token itself; ``asked`` is what was wanted of it."""

    def run(self, inputs: Any, outputs: Any) -> None:
        self.asked = set(outputs)
        super().run(inputs, {"logits": np.empty((1, 400)), **outputs})
        if "token" in outputs:
            outputs["token"][0] = D


@pytest.mark.parametrize(("greedy", "asked"), [(True, "token"), (False, "logits")])
def test_a_greedy_request_needs_no_logits(greedy: bool, asked: str, bundle: Bundle) -> None:
    session = Picking(bundle, "decoder", [[C]])
    decoder = Decoder(in_pieces(bundle, 9, (Tensor("token", "int64", (1,)),)), session, add)
    decoder.reset(greedy=greedy)
    scores = decoder.prefill(Context([A, B]))
    assert (scores if isinstance(scores, int) else int(scores.argmax())) == (D if greedy else C)
    assert Sampler(0, None, None, None).choose(scores) == (D if greedy else C)
    assert session.asked & {"logits", "token"} == {asked}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_run_writes_behind_the_one_before(layout: str, bundle: Bundle) -> None:
    cache = replace(bundle.manifest.cache, layout=layout)
    bundle = replace(bundle, manifest=replace(bundle.manifest, cache=cache))
    session = ScriptedSession(bundle, "decoder", [[]] * 9)
    decoder = Decoder(bundle, session, add)
    decoder.prefill(Context([A, B, C]))
    decoder.step(D)
    if layout == "shared":
        assert [call["total_sequence_length"].item() for call in session.calls] == [3, 4]
    else:
        assert [call["filled"].item() for call in session.calls] == [0, 3]
        assert [output["present.0.key"].shape[1] for output in session.outputs] == [3, 1]


def test_steps_go_on_behind_a_pictures_positions(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    pads = [tokens.image_pad] * 6
    decoder.prefill(Context([A, *pads, B], [(4, 6)], [features(6, 500)]))
    decoder.step(C)
    angle = np.arctan2(session.calls[1]["sin"], session.calls[1]["cos"])[0, 0]
    assert angle == pytest.approx(5 - 2 * np.pi)  # 1 text, 3 columns, 1 text, then this


def test_prefill_stops_in_front_of_an_action(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    decoder.prefill(Context([A, tokens.action_start or 0, tokens.action or 0, B, C]))
    first, second = session.calls
    assert read(session)[0] == [A, tokens.action_start]
    assert second["embeds"].shape == (1, 3, 4)
    np.testing.assert_array_equal(second["embeds"][0, 0], session.outputs[0]["hidden"][0])
    assert read(session)[1][1:] == [B, C]
    assert first["total_sequence_length"] == 2


def test_a_generated_action_takes_the_state_before_it(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    decoder.prefill(Context([A, tokens.action_start or 0]))
    decoder.step(tokens.action or 0)
    np.testing.assert_array_equal(session.calls[1]["embeds"][0, 0], session.outputs[0]["hidden"][0])


def test_features_stand_in_the_places_of_the_pads(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    pad = tokens.image_pad
    context = Context(
        [A, pad, B, pad, pad, C], [(2, 2), (2, 4)], [features(1, 500), features(2, 600)]
    )
    decoder.prefill(context)
    assert read(session) == [[A, 500, B, 600, 601, C]]
    np.testing.assert_array_equal(session.calls[0]["embeds"][0, 1], [500] * 4)
    context.ids += [pad, D]
    context.grids.append((2, 2))
    context.views.append(features(1, 700))
    decoder.prefill(context)
    assert read(session)[1] == [700, D]


def test_reencoded_features_pass_the_projector_with_their_condition(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    pad, action, start = tokens.reencode_pad or 0, tokens.action or 0, tokens.action_start or 0
    context = Context([A, start, action, pad, pad, B], reencodes=[features(2, 500)])
    decoder.prefill(context)
    assert read(session) == [[A, start], [1, 600, 601, B]]  # condition 1: the first run's state
    context.ids += [start, action, pad, pad, C]
    context.reencodes.append(features(2, 700))
    decoder.prefill(context)
    assert read(session)[2:] == [[start], [3, 1000, 1001, C]]  # condition 3


def test_the_condition_is_the_last_actions_though_it_was_computed_before(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    pad, action, start = tokens.reencode_pad or 0, tokens.action or 0, tokens.action_start or 0
    decoder.prefill(Context([A, start]))
    decoder.step(action)
    decoder.step(D)
    decoder.prefill(Context([A, start, action, B, pad], reencodes=[features(1, 500)]))
    assert read(session) == [[A, start], [1], [D], [B, 600]]
    assert decoder.reused_tokens == 3


def test_a_context_that_differs_rewinds_to_the_common_prefix(
    decoder: Decoder, session: ScriptedSession
) -> None:
    decoder.prefill(Context([A, B, C, D]))
    decoder.prefill(Context([A, B, D, C, C]))
    assert read(session) == [[A, B, C, D], [D, C, C]]
    assert session.calls[1]["total_sequence_length"] == 5
    assert (decoder.computed_tokens, decoder.reused_tokens) == (7, 2)


@pytest.mark.parametrize("ids", [[A, B, C], [A, B]])
def test_of_a_known_context_the_last_token_is_computed_again(
    ids: list[int], decoder: Decoder, session: ScriptedSession
) -> None:
    decoder.prefill(Context([A, B, C]))
    decoder.prefill(Context(ids))
    assert read(session)[1] == ids[-1:]


def test_pads_behind_a_rewind_keep_their_features(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    pad = tokens.image_pad
    context = Context([A, pad, pad], [(2, 4)], [features(2, 500)])
    decoder.prefill(context)
    decoder.prefill(context)  # begins in the middle of the picture
    assert read(session) == [[A, 500, 501], [501]]


def test_a_divergence_at_an_action_computes_the_state_before_it_again(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    start, action = tokens.action_start or 0, tokens.action or 0
    decoder.prefill(Context([A, start, B, C]))
    decoder.prefill(Context([A, start, action, C]))
    assert read(session) == [[A, start, B, C], [start], [2, C]]
    np.testing.assert_array_equal(session.calls[2]["embeds"][0, 0], session.outputs[1]["hidden"][0])


def test_an_action_right_behind_what_is_computed_takes_the_state_at_hand(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    start, action = tokens.action_start or 0, tokens.action or 0
    decoder.prefill(Context([A, start]))
    decoder.prefill(Context([A, start, action, C]))
    assert read(session) == [[A, start], [1, C]]


@pytest.mark.parametrize(("same", "kept"), [(False, 1), (True, 4)])
def test_reset_keeps_what_the_next_prompt_may_share(
    same: bool, kept: int, decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    """The text before the first picture, and that picture only if it is the same; never a second
    look."""
    pad, crop = tokens.image_pad, [B, tokens.image_pad]
    context = Context(
        [A, pad, pad, C, *crop], [(2, 4), (2, 2)], [features(2, 500), features(1, 700)]
    )
    decoder.prefill(context)
    decoder.reset(same_picture=same)
    assert (decoder.computed_tokens, decoder.reused_tokens) == (0, 0)
    context.views[1] = features(1, 800)
    decoder.prefill(context)
    assert (
        decoder.reused_tokens == kept + same
    )  # C and B of the text behind the same picture stay as well
    assert read(session)[1] == [A, 500, 501, C, B, 800][kept + same :]


def test_a_state_that_was_cut_off_steers_no_action(
    decoder: Decoder, session: ScriptedSession, tokens: Tokens
) -> None:
    """Behind what is kept comes an action, but the state at hand belongs to what was cut off."""
    action = tokens.action or 0
    decoder.prefill(Context([A, B, tokens.image_pad], [(2, 2)], [features(1, 500)]))
    decoder.reset()
    decoder.prefill(Context([A, B, action]))
    assert read(session)[1:] == [[B], [2]]


def test_too_long_a_prompt_names_the_command_for_more(
    decoder: Decoder, session: ScriptedSession
) -> None:
    decoder.prefill(Context([A] * 64))
    assert decoder.room == 0
    with pytest.raises(
        PromptError, match=r"65 tokens, the cache takes 64; .*vpt-export .* --cache-tokens"
    ) as error:
        decoder.prefill(Context([A] * 65))
    assert "\n" not in str(error.value)
    assert len(session.calls) == 1
    with pytest.raises(PromptError):
        decoder.step(A)


class Remembering:
    """A causal model whose state tells everything that it has read: embeddings and angles, in the
    cache."""

    def __init__(self, layout: str) -> None:
        self._shared = layout == "shared"
        self.memory: Floats = np.zeros((0, 12), np.float32)

    def run(self, inputs: Any, outputs: Any) -> None:
        count, read = inputs["embeds"].shape[1], dict[str, np.ndarray[Any, Any]]()
        angles = np.concatenate((inputs["cos"], inputs["sin"]), axis=1)
        for part, new in (
            ("key", np.pad(inputs["embeds"][0], ((0, 0), (0, 2)))),
            ("value", angles),
        ):
            present = outputs[f"present.0.{part}"]
            if self._shared:
                total = int(inputs["total_sequence_length"])
                present[0, 0, total - count : total] = new
                read[part] = present[0, 0, :total]
            else:
                present[0] = new
                read[part] = np.concatenate(
                    (inputs[f"past.0.{part}"][0, : int(inputs["filled"])], new)
                )
        self.memory = np.concatenate((read["key"], read["value"]), axis=1)
        weights = np.sin(np.arange(self.memory.size, dtype=np.float64)).reshape(self.memory.shape)
        outputs["hidden"][0] = np.sin((weights * self.memory).sum() + np.arange(4))
        outputs["logits"][0] = outputs["hidden"][0, 0]

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> np.ndarray[Any, Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None: ...


@dataclass
class Chat:
    """A context that grows piece by piece; features name the number of their picture."""

    context: Context = field(default_factory=lambda: Context([A, B]))

    def extend(self, pieces: list[Any], tokens: Tokens) -> None:
        context = self.context
        for piece in pieces:
            if piece == "action":
                context.ids.append(tokens.action or 0)
            elif piece == "reencode":
                context.ids += [
                    tokens.action_start or 0,
                    tokens.action or 0,
                    *[tokens.reencode_pad or 0] * 3,
                ]
                context.reencodes.append(features(3, 500 + 10 * len(context.reencodes)))
            elif isinstance(piece, tuple):
                count = piece[0] * piece[1] // 4
                context.ids += [A, *[tokens.image_pad] * count, B]
                context.grids.append(piece)
                context.views.append(features(count, 700 + 10 * len(context.views)))
            else:
                context.ids.append(piece)


texts = st.sampled_from([A, B, C, D])
pieces = st.lists(
    texts | st.sampled_from(["action", "reencode", (2, 2), (2, 4), (4, 6)]), max_size=5
)
generated = st.lists(texts | st.just("action"), max_size=4)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    shared=pieces,
    turns=st.lists(st.tuples(pieces, generated), min_size=1, max_size=3),
    piece=st.sampled_from([1, 2, 5, 256]),
)
@example(shared=[], turns=[(["action", C], []), (["action", "action", D], [])], piece=256)
@example(
    shared=["reencode"], turns=[([C], [D, "action"]), ([C, D, "action", (2, 4)], [])], piece=256
)
def test_a_kept_cache_changes_nothing(
    layout: str,
    shared: list[Any],
    turns: list[tuple[list[Any], list[Any]]],
    piece: int,
    bundle: Bundle,
    tokens: Tokens,
) -> None:
    """Whatever was computed before, in pieces however small, the model has read what one that
    begins anew reads."""
    manifest = replace(bundle.manifest, cache=CacheConfig(layout, "float32", 256))
    bundle = replace(bundle, manifest=manifest)
    kept = Remembering(layout)
    decoder = Decoder(in_pieces(bundle, piece), kept, add)
    for prompt, steps in turns:
        chat = Chat()
        chat.extend(shared + prompt, tokens)
        logits = np.array(decoder.prefill(chat.context))
        for step in steps:
            chat.extend([step], tokens)
            logits = np.array(decoder.step(chat.context.ids[-1]))
        new = Remembering(layout)
        fresh = Decoder(bundle, new, add)
        expected = fresh.prefill(chat.context)
        np.testing.assert_array_equal(kept.memory, new.memory)
        np.testing.assert_array_equal(logits, expected)
        assert fresh.computed_tokens == len(chat.context.ids)


def greedy() -> Sampler:
    return Sampler(0, None, None, None)


def logits(*values: float) -> Floats:
    return np.array(values, np.float32)


def test_greedy_takes_the_likeliest_and_of_equals_the_first() -> None:
    assert greedy().choose(logits(1, 5, 2)) == 1
    assert greedy().choose(logits(1, 5, 5)) == 1
    assert greedy().choose(logits(0, 0)) == 0


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((-1, NAN, -2), 1),  # NaN counts as 0
        ((1, NAN, -2), 0),
        ((NAN, NAN), 0),
        ((1, INF, 2), 1),
        ((NAN, INF, 2), 1),
        ((INF, INF), 0),
        ((-INF, -5), 1),
        ((-INF, -INF), 0),
        ((NAN, -INF, 1), 2),
    ],
)
def test_numbers_that_are_none_do_not_win(values: tuple[float, ...], expected: int) -> None:
    assert greedy().choose(logits(*values)) == expected
    assert (
        Sampler(0.01, None, None, 0).choose(logits(*values)) == expected
        or values.count(values[expected]) > 1
    )


class Recorder:
    """Stands in for numpy's generator and keeps what it is to choose from."""

    def __init__(self) -> None:
        self.weights: dict[int, float] = {}

    def choice(self, ids: Any, p: Any) -> int:
        self.weights = {
            int(token): float(weight) for token, weight in zip(ids, p, strict=True) if weight > 0
        }
        return int(ids[0])


@contextmanager
def recording() -> Iterator[Recorder]:
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder()
        patch.setattr(np.random, "default_rng", lambda seed: recorder)
        yield recorder


def warped(
    values: Floats, temperature: float, top_k: int | None, top_p: float | None
) -> dict[int, float]:
    """transformers' warpers in its order: temperature, top_k, top_p, each on what the one before
    left."""
    scores = values.astype(np.float64) / temperature
    if top_k is not None:
        scores[scores < np.sort(scores)[-min(top_k, len(scores))]] = -np.inf
    if top_p is not None:
        ascending = np.argsort(scores, kind="stable")
        weights = np.exp(scores[ascending] - scores.max())
        removed = np.cumsum(weights / weights.sum()) <= 1 - top_p
        removed[-1] = False
        scores[ascending[removed]] = -np.inf
    weights = np.exp(scores - scores.max())
    return {int(token): weights[token] / weights.sum() for token in np.flatnonzero(weights)}


@given(
    values=st.lists(st.integers(-40, 40), min_size=1, max_size=30, unique=True),
    temperature=st.sampled_from([0.1, 0.7, 0.95, 1.0, 2.0, 10.0]),
    top_k=st.none() | st.integers(1, 40),
    top_p=st.none() | st.floats(0.001, 0.999),
)
@example(values=[3, 2, 1], temperature=1.0, top_k=2, top_p=0.7)  # top_p of what top_k left
@example(
    values=[0, 1], temperature=10.0, top_k=None, top_p=0.5
)  # top_p of what the temperature left
def test_sampling_warps_in_the_order_of_transformers(
    values: list[int], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    numbers = np.array([value / 4 for value in values], np.float32)
    with recording() as recorder:
        Sampler(temperature, top_k, top_p, 1).choose(numbers)
    assert recorder.weights == pytest.approx(warped(numbers, temperature, top_k, top_p))


def test_the_authors_settings_are_greedy() -> None:
    for row in np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32):
        with recording() as recorder:
            Sampler(0.95, 10, 0.1, None).choose(row)
        assert set(recorder.weights) == {int(row.argmax())}


def test_a_seed_repeats_the_choices() -> None:
    numbers = np.zeros(1000, np.float32)

    def choices(seed: int | None) -> list[int]:
        sampler = Sampler(1.0, None, None, seed)
        return [sampler.choose(numbers) for _ in range(8)]

    assert choices(3) == choices(3)
    assert choices(3) != choices(4)
    assert choices(None) != choices(None)
    assert len(set(choices(3))) > 1


def test_choices_follow_their_weights() -> None:
    sampler = Sampler(1.0, None, None, 0)
    chosen = [sampler.choose(np.log(np.array([0.7, 0.1, 0.2], np.float32))) for _ in range(2000)]
    assert np.bincount(chosen) / 2000 == pytest.approx([0.7, 0.1, 0.2], abs=0.05)


def test_sampling_leaves_the_logits_alone() -> None:
    numbers = logits(1, NAN, INF, 3)
    Sampler(1.0, 2, 0.9, 0).choose(numbers)
    np.testing.assert_array_equal(numbers, logits(1, NAN, INF, 3))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "seed"),
    [
        (-0.1, None, None, None),
        (NAN, None, None, None),
        (0, 10, None, None),
        (0, None, 0.5, None),
        (0, None, None, 7),
        (1, 0, None, None),
        (1, -3, None, None),
        (1, None, 0, None),
        (1, None, 1.01, None),
        (1, None, NAN, None),
        (1, None, None, -1),
    ],
)
def test_options_that_mean_nothing_are_refused(
    temperature: float, top_k: int | None, top_p: float | None, seed: int | None
) -> None:
    with pytest.raises(PromptError):
        Sampler(temperature, top_k, top_p, seed)


def test_ignored_options_are_named() -> None:
    with pytest.raises(PromptError, match="top_k, seed would be ignored at temperature 0"):
        Sampler(0, 5, None, 0)
