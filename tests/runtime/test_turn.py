"""One turn: what it begins with, which tokens are taken, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import (
    CLIP,
    FIRST,
    PICTURE,
    PICTURE_TOKENS,
    REGION,
    Tiny,
    answer_of,
    chat_of,
    conversation,
    events_of,
    join,
)

from vpt_edge.runtime import Finished, Pipeline, Reencode, Text
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.testing import Script


@pytest.mark.parametrize(
    ("perception", "suffix"),
    [
        ("free", ""),
        ("off", ""),
        (
            "region",
            " \nIdentify the region that can help you answer the question, and then answer the "
            "question.",
        ),
        ("reencode", " \nRequire additional perception features, and then answer the question."),
    ],
)
def test_perception_appends_the_authors_sentence(perception: str, suffix: str, tiny: Tiny) -> None:
    answer = answer_of(Script("Yes."), tiny(), perception=perception)
    expected = conversation(tiny(), f"<image>\nWhat?{suffix}", tokens=[PICTURE_TOKENS])
    assert list(answer.turns[0].prompt_ids) == expected
    assert answer.question == "What?"


def test_a_prefix_begins_the_first_turn(tiny: Tiny) -> None:
    events = events_of(Script("dog."), tiny(), assistant_prefix="A ")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, join(events)) == ("A dog.", "A dog.")
    prompt = conversation(tiny(), FIRST, tokens=[PICTURE_TOKENS])
    assert list(answer.turns[0].prompt_ids) == prompt + chat_of(tiny()).encode("A ")


@pytest.mark.parametrize("prefix", ["a\ud800", None, b"A"])
def test_a_prefix_is_text(prefix: Any, tiny: Tiny) -> None:
    with pytest.raises(PromptError):
        answer_of(Script("dog."), tiny(), assistant_prefix=prefix)


def test_behind_an_action_start_the_action_is_forced(tiny: Tiny) -> None:
    answer = answer_of(
        Script("<|clip_action_start|>x<|clip_action_end|>", "Red."), tiny(), keep_logits=True
    )
    perception = tiny().manifest.perception
    first, _ = answer.turns
    assert first.generated_ids[:2] == (perception["action_start"], perception["action"])
    assert first.text == CLIP
    assert first.logits is not None
    assert first.logits[1].argmax() == ord("x") - ord("!")  # what the model wanted to say


def test_behind_an_action_start_an_end_token_ends(tiny: Tiny) -> None:
    answer = answer_of(Script("Hm <|clip_action_start|>", "Red."), tiny())
    start = tiny().manifest.perception["action_start"]
    end = tiny().manifest.tokens.end[0]
    assert answer.turns[0].generated_ids[-2:] == (start, end)
    assert answer.turns[0].text == "Hm <|clip_action_start|>"
    assert (answer.looks[0].action, answer.text) == (Reencode("clip"), "Red.")


def test_the_last_allowed_token_is_not_forced(tiny: Tiny) -> None:
    answer = answer_of(Script("<|clip_action_start|>xyz", "Red."), tiny(), max_new_tokens=2)
    assert [turn.text for turn in answer.turns] == ["<|clip_action_start|>x", "Re"]
    assert (answer.finish_reason, answer.text) == ("length", "Re")


def test_any_end_token_ends(tiny: Tiny) -> None:
    answer = answer_of(Script("A<|vision_end|>"), tiny())
    assert (answer.text, answer.finish_reason) == ("A", "stop")
    assert len(answer.turns[0].generated_ids) == 2


def test_the_padding_token_is_no_end(tiny: Tiny) -> None:
    assert answer_of(Script("A<|endoftext|>B"), tiny()).text == "AB"


def test_generation_stops_at_max_new_tokens(tiny: Tiny) -> None:
    events = events_of(Script("A long answer"), tiny(), max_new_tokens=3)
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, join(events), answer.finish_reason) == ("A l", "A l", "length")
    assert len(answer.turns[0].generated_ids) == 3
    assert answer_of(Script("ABC"), tiny(), max_new_tokens=4).finish_reason == "stop"


def test_max_new_tokens_counts_each_turn(tiny: Tiny) -> None:
    answer = answer_of(Script(REGION, "Yes"), tiny(), max_new_tokens=6)
    assert [len(turn.generated_ids) for turn in answer.turns] == [6, 4]
    answer = answer_of(Script(REGION), tiny(), max_new_tokens=4)
    assert (answer.looks, answer.finish_reason) == ((), "length")


def test_a_full_cache_ends_the_turn(tiny: Tiny) -> None:
    prompt = len(conversation(tiny(), FIRST, tokens=[PICTURE_TOKENS]))
    answer = answer_of(Script("A long answer"), tiny(capacity=prompt + 3))
    # The last token needs no place.
    assert (answer.text, answer.finish_reason) == ("A lo", "length")
    answer = answer_of(Script("A long answer"), tiny(capacity=prompt))
    assert (answer.text, answer.finish_reason) == ("A", "length")


def test_too_long_a_question_is_refused_and_the_pipeline_goes_on(tiny: Tiny) -> None:
    prompt = len(conversation(tiny(), FIRST, tokens=[PICTURE_TOKENS]))
    with Pipeline(tiny(capacity=prompt + 3), opener=Script("Yes")) as pipeline:
        with pytest.raises(PromptError, match="shorten the question"):
            pipeline.ask(PICTURE, "What on earth is it?")
        assert pipeline.ask(PICTURE, "What?").text == "Yes"


def test_text_of_several_bytes_comes_whole(tiny: Tiny) -> None:
    events = events_of(Script("é🐕"), tiny())
    assert [event.piece for event in events if isinstance(event, Text)] == ["é", "🐕"]


def test_logits_are_kept_on_demand(tiny: Tiny) -> None:
    answer = answer_of(Script(CLIP, "Yes"), tiny(), keep_logits=True)
    for turn in answer.turns:
        assert turn.logits is not None
        assert turn.logits.shape == (len(turn.generated_ids), tiny().manifest.text.vocab_size)
        assert turn.logits.argmax(axis=1).tolist() == list(turn.generated_ids)
    assert all(turn.logits is None for turn in answer_of(Script("Yes"), tiny()).turns)
