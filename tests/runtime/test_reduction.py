"""A first view of fewer visual tokens: which are chosen, where they stand, and what stays whole."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted import CLIP, REGION
from zoom import WHOLE, call, zoom_bundle

from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.context import Encoded, Visual
from vpt_edge.runtime.errors import ContextLengthError, PromptError
from vpt_edge.runtime.manifest import Budget
from vpt_edge.runtime.perception.none import NoneConfig, block
from vpt_edge.runtime.positions import mrope, mrope_positions
from vpt_edge.runtime.processor import MERGE
from vpt_edge.runtime.reduction import (
    LEAST_TOKENS,
    PIVOTS,
    choose_tokens,
    count_tokens,
    reduce_tokens,
)
from vpt_edge.runtime.testing import LEVELS, Script, ScriptedSession, tiny_bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.sessions import Session

    Floats = NDArray[np.float32]

COLUMNS = 12
ROWS = 10
TOKENS = COLUMNS * ROWS  # of PICTURE
PICTURE = Image.fromarray(
    np.random.default_rng(3).integers(0, 255, (28 * ROWS, 28 * COLUMNS, 3), np.uint8)
)
SMALL = Image.new("RGB", (224, 224))  # 64 tokens
SHARES = (None, 0.75, 1.0)
HALF: dict[str, Any] = {"first_token_share": 0.5}


def noise(tokens: int, seed: int, width: int = 6) -> Floats:
    return np.random.default_rng(seed).standard_normal((tokens, width)).astype(np.float32)


class Telling(ScriptedSession):
    """A tower each of whose tokens is another, the same for every picture."""

    def run(self, inputs: Any, outputs: Any) -> None:
        super().run(inputs, outputs)
        if self._name == "vision_encoder":
            for name, array in outputs.items():
                array[...] = noise(array.size, len(name), 1).reshape(array.shape)
            self.outputs[-1] = {name: array.copy() for name, array in outputs.items()}


class Tower(Script):
    """A script whose vision encoder is ``Telling``."""

    def __call__(self, model: Any, name: str, /) -> Session:
        super().__call__(model, name)
        telling = Telling(model, name, self.sessions[name]._turns)
        self.sessions[name] = telling
        return telling


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def zoom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    return zoom_bundle(tmp_path, monkeypatch)


@given(tokens=st.integers(1, 400), share=st.floats(0.001, 1))
def test_a_share_is_rounded_up_and_never_below_the_least(tokens: int, share: float) -> None:
    count = count_tokens(tokens, share)
    assert min(tokens, LEAST_TOKENS) <= count <= tokens
    assert count >= share * tokens - 1e-6
    assert count < share * tokens + 1 or count == min(tokens, LEAST_TOKENS)


@pytest.mark.parametrize(
    ("tokens", "share", "count"),
    [
        (100, 0.55, 64),
        (200, 0.55, 110),
        (1000, 0.055, 64),
        (1000, 0.65, 650),
        (1000, 0.6501, 651),
        (300, 1, 300),
    ],
)
def test_a_rounding_error_is_not_a_token(tokens: int, share: float, count: int) -> None:
    assert count_tokens(tokens, share) == count


def as_written(features: Floats, count: int) -> list[int]:
    """The method step by step, a token at a time, in double precision."""
    rows = features.astype(np.float64)
    norms = np.abs(rows).sum(axis=1)
    pivots = sorted(range(len(rows)), key=lambda index: -norms[index])[: min(PIVOTS, count)]
    quota = math.ceil((count - len(pivots)) / len(pivots))
    chosen = list(pivots)
    for pivot in pivots:
        others = [index for index in range(len(rows)) if index not in chosen]
        cosines = {
            index: rows[index]
            @ rows[pivot]
            / (np.linalg.norm(rows[index]) * np.linalg.norm(rows[pivot]))
            for index in others
        }
        others.sort(key=cosines.__getitem__)
        chosen += others[: min(quota, count - len(chosen))]
    return sorted(chosen)


@given(tokens=st.integers(2, 80), seed=st.integers(0, 1 << 16), data=st.data())
def test_those_are_chosen_that_are_least_alike(tokens: int, seed: int, data: st.DataObject) -> None:
    features = noise(tokens, seed)
    count = data.draw(st.integers(1, tokens))
    assert choose_tokens(features, count).tolist() == as_written(features, count)


@given(
    tokens=st.integers(1, 100),
    width=st.integers(0, 3),
    kinds=st.integers(1, 4),
    data=st.data(),
)
def test_the_quota_is_kept_where_tokens_are_equal_or_empty(
    tokens: int, width: int, kinds: int, data: st.DataObject
) -> None:
    features = noise(kinds, 1, width)[np.arange(tokens) % kinds]
    features[:: data.draw(st.integers(1, tokens))] = 0
    count = data.draw(st.integers(1, tokens))
    places = choose_tokens(features, count)
    assert len(places) == count
    assert (np.diff(places) > 0).all()
    assert places.min() >= 0 and places.max() < tokens
    norms = np.abs(features).sum(axis=1)
    pivots = np.argsort(-norms, kind="stable")[: min(PIVOTS, count)]
    assert set(pivots) <= set(places)


@pytest.mark.parametrize("deep", [False, True])
def test_features_of_all_depths_are_of_the_same_tokens(deep: bool) -> None:
    features = noise(TOKENS, 0)
    levels = np.stack((2 * features, 4 * features)) if deep else None
    whole = Encoded(features, (1, 2 * ROWS, 2 * COLUMNS), levels)
    part = reduce_tokens(whole, 0.6)
    assert part.places is not None
    assert (part.tokens, part.grid) == (72, whole.grid)
    np.testing.assert_array_equal(part.features, features[part.places])
    if not deep:
        assert part.deep is None
    else:
        assert part.deep is not None
        np.testing.assert_array_equal(part.deep, [2 * part.features, 4 * part.features])


@pytest.mark.parametrize(("tokens", "share"), [(TOKENS, 1.0), (64, 0.1), (30, 0.5)])
def test_what_is_shown_whole_is_the_very_same(tokens: int, share: float) -> None:
    whole = Encoded(noise(tokens, 0), (1, 2, 2 * tokens))
    assert reduce_tokens(whole, share) is whole


def ask(script: Script, bundle: Bundle, image: Any = PICTURE, **options: Any) -> Any:
    with Pipeline(bundle, opener=script) as pipeline:
        return pipeline.ask(image, "What?", **options)


def pads(answer: Any, bundle: Bundle, turn: int = 0) -> int:
    return int(answer.turns[turn].prompt_ids.count(bundle.manifest.tokens.image_pad))


def chosen_of(script: Script, share: float, run: int = 0) -> Encoded:
    """What of the tower's ``run`` should be shown."""
    outputs = script.sessions["vision_encoder"].outputs[run]
    whole = Encoded(outputs["features"][0], (1, 2 * ROWS, 2 * COLUMNS), outputs.get("deep"))
    return reduce_tokens(whole, share)


@pytest.mark.parametrize("share", [0.75, 0.6])
def test_the_decoder_is_given_their_rows_at_their_places(share: float, tiny: Bundle) -> None:
    script = Tower("Yes.")
    answer = ask(script, tiny, first_token_share=share)
    part = chosen_of(script, share)
    count = math.ceil(share * TOKENS)
    assert (pads(answer, tiny), answer.usage.dropped_tokens) == (count, TOKENS - count)
    prompt = answer.turns[0].prompt_ids
    start = prompt.index(tiny.manifest.tokens.image_pad)
    fed = script.sessions["decoder"].calls[0]
    np.testing.assert_array_equal(fed["embeds"][0, start : start + count], part.features)
    assert fed["embeds"].shape[1] == len(prompt)
    positions = mrope_positions(len(prompt), [Visual(start, part)], MERGE)
    text = tiny.manifest.text
    cos, sin = mrope(positions, text.head_dim, text.rope_theta, text.mrope_section)
    np.testing.assert_array_equal(fed["cos"], cos)
    np.testing.assert_array_equal(fed["sin"], sin)
    whole = ask(Tower("Yes."), tiny)
    assert pads(whole, tiny) == TOKENS
    assert whole.usage.dropped_tokens == 0


def test_a_generated_token_is_where_it_is_behind_the_whole_picture(tiny: Bundle) -> None:
    scripts = [Tower("Yes."), Tower("Yes.")]
    ask(scripts[0], tiny)
    ask(scripts[1], tiny, **HALF)
    whole, part = (script.sessions["decoder"].calls for script in scripts)
    assert len(whole) == len(part) > 2
    for one, other in zip(whole[1:], part[1:], strict=True):
        np.testing.assert_array_equal(one["cos"], other["cos"])
        np.testing.assert_array_equal(one["embeds"], other["embeds"])


def test_deep_features_are_those_of_the_rows(tmp_path: Path) -> None:
    plain = block(NoneConfig(None, None))
    bundle = tiny_bundle(tmp_path, model="qwen3_vl", perception=plain)
    picture = PICTURE.resize((32 * COLUMNS, 32 * ROWS))
    script = Tower("Yes.")
    answer = ask(script, bundle, picture, first_token_share=0.7)
    part = chosen_of(script, 0.7)
    start = answer.turns[0].prompt_ids.index(bundle.manifest.tokens.image_pad)
    fed = script.sessions["decoder"].calls[0]
    place = slice(start, start + part.tokens)
    assert part.tokens == 84
    np.testing.assert_array_equal(fed["embeds"][0, place], part.features)
    assert part.deep is not None and part.deep.shape[0] == LEVELS
    np.testing.assert_array_equal(fed["deep"][:, place], part.deep)
    assert not fed["deep"][:, part.tokens + start :].any()


def test_a_picture_of_the_least_tokens_is_shown_whole(tiny: Bundle) -> None:
    answer = ask(Tower("Yes."), tiny, SMALL, first_token_share=0.1)
    assert (pads(answer, tiny), answer.usage.dropped_tokens) == (64, 0)


def test_a_look_is_never_reduced(tiny: Bundle) -> None:
    """And its box is that of the picture, not of the tokens that are left."""
    whole = ask(Tower(REGION, "Yes."), tiny)
    script = Tower(REGION, "Yes.")
    answer = ask(script, tiny, **HALF)
    (look,) = answer.looks
    assert look.tokens == whole.looks[0].tokens
    assert (look.box, look.cells) == (whole.looks[0].box, whole.looks[0].cells)
    assert pads(answer, tiny, 1) == LEAST_TOKENS + look.tokens
    assert answer.usage.dropped_tokens == TOKENS - LEAST_TOKENS
    calls = script.sessions["decoder"].calls
    rows = np.concatenate([each["embeds"][0] for each in calls])
    features = script.sessions["vision_encoder"].outputs[1]["features"][0]
    start = len(answer.turns[0].prompt_ids)
    place = answer.turns[1].prompt_ids.index(tiny.manifest.tokens.image_pad, start)
    np.testing.assert_array_equal(rows[place : place + look.tokens], features)


def test_a_reencode_by_clip_takes_what_was_dropped_too(tiny: Bundle) -> None:
    script = Tower(CLIP, "Yes.")
    answer = ask(script, tiny, **HALF)
    (look,) = answer.looks
    assert look.tokens == TOKENS
    features = script.sessions["vision_encoder"].outputs[0]["features"]
    projected = script.sessions["reencoder_projector"].calls[0]["features"]
    np.testing.assert_array_equal(projected, features)
    assert answer.usage.vision_runs == 1


def test_a_reencode_of_all_tokens_must_fit_into_the_cache(tiny: Bundle, tmp_path: Path) -> None:
    whole = ask(Tower(CLIP, "Yes."), tiny, **HALF)
    needed = len(whole.turns[1].prompt_ids)
    for capacity, looks, reason in ((needed + 9, 1, "stop"), (needed - 1, 0, "length")):
        bundle = tiny_bundle(tmp_path / reason, capacity=capacity)
        answer = ask(Tower(CLIP, "Yes."), bundle, **HALF)
        assert (len(answer.looks), answer.finish_reason) == (looks, reason)


def test_a_whole_look_behind_a_smaller_first_view_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = zoom_bundle(tmp_path, monkeypatch, halves=True)
    picture = PICTURE.resize((28 * 18, 28 * 16))  # 288 tokens, 72 at half its size
    answer = ask(Tower(WHOLE, call((0, 0, 56, 56), source=1), "Yes."), bundle, picture, **HALF)
    whole, crop = answer.looks
    assert (whole.tokens, crop.tokens) == (288, 4)
    assert [pads(answer, bundle, turn) for turn in range(3)] == [64, 352, 356]
    assert answer.usage.dropped_tokens == 72 - 64


def test_each_picture_of_several_is_reduced_by_itself(zoom: Bundle) -> None:
    script = Tower(call((0, 0, 56, 56), source=1), "Yes.")
    answer = ask(script, zoom, [SMALL, PICTURE, PICTURE], first_token_share=0.8)
    assert pads(answer, zoom) == 64 + 96 + 96
    assert answer.usage.dropped_tokens == 2 * 24
    assert [look.tokens for look in answer.looks] == [4]


def test_another_question_finds_a_reduced_picture_in_the_cache(tiny: Bundle) -> None:
    """The question has no say in which tokens are kept."""
    script = Tower(REGION, "Yes.", "No.", "Both.", "All.", "None.", "Red.")
    with Pipeline(tiny, opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        encoded.ask("What?", **HALF)
        second = encoded.ask("Who is it?", **HALF)
        other = encoded.ask("Who is that?", first_token_share=0.75)
        whole = encoded.ask("Why?")
        again = encoded.ask("How?", **HALF)
        smaller = encoded.ask("When?", max_pixels=28 * 28 * 90, **HALF)
    start = second.turns[0].prompt_ids.index(tiny.manifest.tokens.image_pad)
    assert second.usage.reused_tokens >= start + LEAST_TOKENS
    assert [other.usage.reused_tokens, whole.usage.reused_tokens] == [start, start]
    assert again.usage.reused_tokens == start  # of another form there is none in the cache
    answers = (second, other, whole, again)
    assert [answer.usage.vision_runs for answer in answers] == [0] * 4
    assert [pads(answer, tiny) for answer in answers] == [64, 90, 120, 64]
    assert pads(second, tiny) + second.usage.dropped_tokens == TOKENS
    assert (smaller.usage.vision_runs, smaller.usage.dropped_tokens) == (1, 80 - 64)


@pytest.mark.parametrize("share", [None, 1, 1.0])
def test_all_is_what_is_shown_without_a_share(share: Any, tiny: Bundle) -> None:
    """To the bit."""
    scripts = [Tower(REGION, "Yes."), Tower(REGION, "Yes.")]
    answers = [ask(scripts[0], tiny), ask(scripts[1], tiny, first_token_share=share)]
    assert answers[0].turns == answers[1].turns
    one, other = (script.sessions["decoder"].calls for script in scripts)
    for call_of_one, call_of_other in zip(one, other, strict=True):
        for name, array in call_of_one.items():
            np.testing.assert_array_equal(array, call_of_other[name])


def test_the_bundles_budget_is_what_a_question_has_without_a_share(tiny: Bundle) -> None:
    budget = Budget(first_token_share=0.6)
    bundle = replace(tiny, manifest=replace(tiny.manifest, budget=budget))
    shown = [pads(ask(Tower("Yes."), bundle, first_token_share=share), tiny) for share in SHARES]
    assert shown == [72, 90, TOKENS]


@pytest.mark.parametrize("share", [0, -0.5, 1.001, float("nan"), float("inf"), True, "1"])
def test_a_share_is_more_than_nothing_and_at_most_all(share: Any, tiny: Bundle) -> None:
    with pytest.raises(PromptError, match="first_token_share"):
        ask(Script("Yes."), tiny, first_token_share=share)


def test_a_cache_that_holds_the_part_alone_is_enough(tiny: Bundle, tmp_path: Path) -> None:
    whole = len(ask(Tower("Yes."), tiny).turns[0].prompt_ids)
    bundle = tiny_bundle(tmp_path, capacity=whole - 1)
    with pytest.raises(ContextLengthError, match=f"has {whole} tokens"):
        ask(Tower("Yes."), bundle)
    assert ask(Tower("Yes."), bundle, **HALF).text == "Yes."
