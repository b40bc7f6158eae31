"""Drafts: looked up, computed with the token in front of them, and never said unless the model says
the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import CLIP, PICTURE, REGION, Tiny
from speaking import Speaking, speak

from vpt_edge.runtime import Answer, Bundle, Finished, Pipeline
from vpt_edge.runtime.errors import BundleError, PromptError, SessionError
from vpt_edge.runtime.interface import check_manifest
from vpt_edge.runtime.manifest import Budget
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from vpt_edge.runtime.result import Event

SONG = "abcdefgh abcdefgh abcdefgh abcdefgh"


class Heard:
    """What a pipeline says to questions, and what it has computed by then."""

    def __init__(
        self, bundle: Bundle, turns: tuple[str, ...], questions: tuple[str, ...], **options: Any
    ) -> None:
        self.speaking = speak(bundle, *turns)
        self.events: list[Event] = []
        self.answers: list[Answer] = []
        with Pipeline(bundle, opener=self.speaking) as pipeline:
            for question in questions:
                *events, last = pipeline.stream(PICTURE, question, **options)
                assert isinstance(last, Finished)
                self.events += events
                self.answers.append(last.answer)
            decoder = pipeline._decoder
            self.ids = list(decoder._ids)
            self.position = decoder._next_position
            self.cache = [decoder._cache.read(0, part) for part in ("key", "value")]
            self.conditions = {key: list(state) for key, state in decoder._conditions.items()}

    @property
    def answer(self) -> Answer:
        return self.answers[-1]


def hear(bundle: Bundle, *turns: str, question: str = "What?", **options: Any) -> Heard:
    return Heard(bundle, turns, (question,), **options)


def assert_same(heard: Heard, plain: Heard) -> None:
    """All but the cost is the same."""
    assert heard.events == plain.events
    for answer, other in zip(heard.answers, plain.answers, strict=True):
        assert answer.turns == other.turns
        for turn, same in zip(answer.turns, other.turns, strict=True):
            if turn.logits is not None:
                np.testing.assert_array_equal(turn.logits, same.logits)
        ended = (answer.text, answer.raw, answer.finish_reason, answer.stop_sequence)
        assert ended == (other.text, other.raw, other.finish_reason, other.stop_sequence)
        assert answer.looks == other.looks
        assert answer.usage.reused_tokens == other.usage.reused_tokens
        left_over = answer.usage.draft_tokens - answer.usage.accepted_tokens
        assert answer.usage.computed_tokens == other.usage.computed_tokens + left_over
    assert heard.ids == plain.ids
    assert heard.position == plain.position
    assert heard.conditions == plain.conditions
    for part, other_part in zip(heard.cache, plain.cache, strict=True):
        np.testing.assert_array_equal(part, other_part)


def compare(
    bundle: Bundle, *turns: str, draft_tokens: int = 4, question: str = "What?", **options: Any
) -> Heard:
    """What is said with drafts, which is what is said without."""
    plain = hear(bundle, *turns, question=question, **options)
    assert plain.answer.usage.draft_tokens == 0
    heard = hear(bundle, *turns, question=question, draft_tokens=draft_tokens, **options)
    assert_same(heard, plain)
    return heard


def test_what_repeats_is_accepted_and_costs_fewer_passes(tiny: Tiny) -> None:
    heard = compare(tiny(), SONG)
    usage = heard.answer.usage
    assert heard.answer.text == SONG
    assert usage.accepted_tokens > 15
    assert len(heard.speaking.passes) == 1 + usage.generated_tokens - 1 - usage.accepted_tokens


def test_a_question_that_is_said_again_is_a_draft(tiny: Tiny) -> None:
    question = "the quick brown fox jumps over the lazy dog"
    heard = compare(tiny(), f"I see: {question}!", question=question, draft_tokens=8)
    assert heard.answer.usage.accepted_tokens > 30


def test_of_what_is_new_nothing_is_drafted(tiny: Tiny) -> None:
    usage = compare(tiny(), "0123456789").answer.usage
    assert (usage.draft_tokens, usage.accepted_tokens) == (0, 0)


def test_a_draft_is_accepted_as_far_as_it_holds(tiny: Tiny) -> None:
    usage = compare(tiny(), "0123456789 012345xyz").answer.usage
    assert usage.draft_tokens > usage.accepted_tokens > 0


def test_an_earlier_answer_is_a_draft(tiny: Tiny) -> None:
    said = "0123456789"
    questions = ("What?", "And?")
    plain = Heard(tiny(), (said, said), questions)
    heard = Heard(tiny(), (said, said), questions, draft_tokens=4)
    assert_same(heard, plain)
    assert [answer.usage.accepted_tokens > 0 for answer in heard.answers] == [False, True]


def test_earlier_answers_are_forgotten(tiny: Tiny) -> None:
    said = "0123456789"
    speaking = speak(tiny(), said, said)
    with Pipeline(tiny(), opener=speaking) as pipeline:
        pipeline.ask(PICTURE, "What?", draft_tokens=4)
        pipeline.forget()
        assert pipeline.ask(PICTURE, "And?", draft_tokens=4).usage.draft_tokens == 0


@pytest.mark.parametrize("count", [1, 2, 9, 10, 12, 13, 14, 17, 20, 35])
def test_a_draft_ends_where_the_turn_is_full(count: int, tiny: Tiny) -> None:
    heard = compare(tiny(), SONG, max_new_tokens=count)
    assert heard.answer.usage.generated_tokens == count


@pytest.mark.parametrize("short", [0, 1, 2, 3, 7, 11, 15, 19])
def test_a_draft_ends_where_the_cache_is_full(short: int, tiny: Tiny) -> None:
    whole = hear(tiny(), SONG)
    heard = compare(tiny(capacity=len(whole.ids) - short), SONG)
    assert heard.answer.usage.accepted_tokens > 0
    assert (heard.answer.finish_reason == "length") == (short > 0)


def test_a_draft_does_not_reach_over_an_end_token(tiny: Tiny) -> None:
    tokens = tiny().manifest.tokens
    questions = ("What?", "And?")
    heard = Heard(tiny(), ("0123", "0123456789"), questions, draft_tokens=8)
    assert_same(heard, Heard(tiny(), ("0123", "0123456789"), questions))
    assert heard.answer.text == "0123456789"
    assert heard.answers[1].usage.draft_tokens == heard.answers[1].usage.accepted_tokens == 2
    assert tokens.end[0] not in heard.ids[-5:]


@pytest.mark.parametrize("stop", ["fgh", "h a", "cdefgh abcdefgh abc"])
def test_a_stop_text_inside_a_draft_ends_the_turn(stop: str, tiny: Tiny) -> None:
    heard = compare(tiny(), SONG, stop=stop)
    assert heard.answer.stop_sequence == stop


@pytest.mark.parametrize("kind", ["clip", "detection", "seg"])
def test_a_draft_ends_in_front_of_an_action(kind: str, tiny: Tiny) -> None:
    action = CLIP.replace("clip", kind)
    said = f"so then {action}"
    for draft_tokens in (3, 5, 6, 8, 15):
        heard = compare(tiny(kind), said, said, draft_tokens=draft_tokens)
        assert len(heard.answer.looks) == 1
        assert len(heard.conditions) == 2
        assert heard.answer.usage.accepted_tokens > 0


def test_a_look_is_taken_out_of_a_draft(tiny: Tiny) -> None:
    question = f"{REGION[:-24]}"
    heard = compare(tiny(), f"{REGION}", SONG, question=question, perception="region")
    assert [look.kind for look in heard.answer.looks] == ["region"]


def test_a_turn_goes_on_behind_a_draft_that_was_left(tiny: Tiny) -> None:
    """The next turn's prompt is other than what was drafted."""
    turns = (f"abcabcabc {REGION}", "abcabcabd")
    assert compare(tiny(), *turns, draft_tokens=8).answer.usage.accepted_tokens > 0


def test_logits_are_kept_of_drafted_tokens(tiny: Tiny) -> None:
    heard = compare(tiny(), SONG, keep_logits=True)
    logits = heard.answer.turns[0].logits
    assert logits is not None
    assert len(logits) == heard.answer.usage.generated_tokens


def test_an_abandoned_stream_leaves_no_draft_behind(tiny: Tiny) -> None:
    said = ("abcabcabcabc", SONG)
    for count in range(3, 12):
        heard = []
        for draft_tokens in (0, 8):
            speaking = speak(tiny(), *said)
            with Pipeline(tiny(), opener=speaking) as pipeline:
                stream = pipeline.stream(PICTURE, "What?", draft_tokens=draft_tokens)
                for _ in range(count):
                    next(stream)
                stream.close()
                answer = pipeline.ask(PICTURE, "What? And?", draft_tokens=draft_tokens)
                heard.append((answer.turns, answer.usage.reused_tokens, pipeline._decoder._ids))
        assert heard[0] == heard[1]


TEXTS = st.lists(st.sampled_from(["abc", "abd", " ", "x", "y z", CLIP, REGION]), max_size=12)


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    turns=st.tuples(TEXTS, TEXTS, TEXTS),
    question=TEXTS,
    draft_tokens=st.integers(1, 15),
    options=st.fixed_dictionaries(
        {},
        optional={
            "max_new_tokens": st.integers(1, 40),
            "temperature": st.sampled_from([0.3, 1.0, 5.0]),
            "presence_penalty": st.sampled_from([-2.0, 1.5]),
            "stop": st.sampled_from(["abc", "ab", "z"]),
            "perception": st.sampled_from(["free", "off", "region", "reencode"]),
            "assistant_prefix": st.sampled_from(["a", "ab"]),
            "max_looks": st.integers(0, 2),
        },
    ),
)
def test_any_script_is_said_as_without(
    turns: tuple[list[str], ...],
    question: list[str],
    draft_tokens: int,
    options: dict[str, Any],
    tiny: Tiny,
) -> None:
    if "temperature" in options:
        options = {**options, "seed": 7}
    texts = ["".join(turn) for turn in turns]
    asked = "".join(question).replace(CLIP, "").replace(REGION, "")
    compare(
        tiny(capacity=400),
        *texts,
        question=f"{asked}?",
        draft_tokens=draft_tokens,
        keep_logits=True,
        **options,
    )


def test_numbers_that_are_not_finite_count_where_they_are_taken(tiny: Tiny) -> None:
    """A draft that is not accepted has no say in whether there is an answer."""

    class Spoiling(Speaking):
        at = 0

        def run(self, inputs: Any, outputs: Any) -> None:
            super().run(inputs, outputs)
            places = int(inputs["total_sequence_length"]) - len(inputs["last"])
            for row in range(len(inputs["last"])):
                if places + row == self.at:
                    outputs["hidden"][row] = np.nan

    turn = "abcdabcx"
    prompt = len(hear(tiny(), turn).answer.turns[0].prompt_ids)
    outcomes = []
    for draft_tokens in (0, 4):
        for place in range(prompt, prompt + len(turn)):
            speaking = Spoiling(*speak(tiny(), turn)._turns)
            speaking.at = place
            events: list[Event] = []
            with Pipeline(tiny(), opener=speaking) as pipeline:
                stream = pipeline.stream(PICTURE, "What?", draft_tokens=draft_tokens)
                with pytest.raises(SessionError):
                    events.extend(stream)
            outcomes.append(events)
    half = len(outcomes) // 2
    assert outcomes[:half] == outcomes[half:]


def test_the_bundles_budget_is_what_a_request_does_not_say(tiny: Tiny) -> None:
    bundle = replace(tiny(), manifest=replace(tiny().manifest, budget=Budget(draft_tokens=4)))
    assert hear(bundle, SONG).answer.usage.accepted_tokens > 0
    assert hear(bundle, SONG, draft_tokens=0).answer.usage.draft_tokens == 0


def without_last(bundle: Bundle) -> Bundle:
    """As it was exported before decoders read out several positions."""
    graph = bundle.graph("decoder")
    inputs = tuple(tensor for tensor in graph.inputs if tensor.name != "last")
    outputs = []
    for tensor in graph.outputs:
        shape = tuple(1 if side == "last" else side for side in tensor.shape)
        outputs.append(replace(tensor, shape=shape))
    bounds = {axis: bound for axis, bound in graph.bounds.items() if axis != "last"}
    graph = replace(graph, inputs=inputs, outputs=tuple(outputs), bounds=bounds)
    graphs = {**bundle.manifest.graphs, "decoder": graph}
    return replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))


def test_an_older_bundle_answers_and_refuses_drafts(tiny: Tiny) -> None:
    older = without_last(tiny())
    check_manifest(older.manifest)
    script = Script("Yes.")
    with Pipeline(older, opener=script) as pipeline:
        assert pipeline.ask(PICTURE, "What?").text == "Yes."
        assert "last" not in script.sessions["decoder"].calls[0]
        with pytest.raises(PromptError) as error:
            pipeline.stream(PICTURE, "What?", draft_tokens=1)
    assert str(error.value) == (
        "draft_tokens is 1, this bundle's decoder takes 0 to 0; leave it out, or for ONNX Runtime "
        "export the checkpoint again: vpt-export CHECKPOINT -o BUNDLE"
    )


def test_a_draft_fits_into_a_pass(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=speak(tiny(), SONG)) as pipeline:
        with pytest.raises(PromptError, match="draft_tokens is 16, this bundle's decoder takes 0 "):
            pipeline.stream(PICTURE, "What?", draft_tokens=16)
        assert pipeline.ask(PICTURE, "What?", draft_tokens=15).text == SONG


def test_a_budget_fits_into_a_pass(tiny: Tiny) -> None:
    manifest = replace(tiny().manifest, budget=Budget(draft_tokens=16))
    with pytest.raises(BundleError, match="budget: draft_tokens is 16, the decoder takes 15"):
        check_manifest(manifest)
