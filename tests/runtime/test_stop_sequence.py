"""A turn that comes to a stop text: what is shown of it, what it was, and whether it looks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from golden import TAGS, Exporter
from scripted import (
    CLIP,
    FIRST,
    OTHER,
    PICTURE,
    PICTURE_TOKENS,
    REGION,
    REGION_ACTION,
    Tiny,
    answer_of,
    chat_of,
    conversation,
    events_of,
    join,
)

from vpt_edge.runtime import Finished, Looked, Pipeline, Text
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime.result import Event


def text_before_the_look(events: list[Event]) -> str:
    (index,) = [index for index, event in enumerate(events) if isinstance(event, Looked)]
    return "".join(event.piece for event in events[:index] if isinstance(event, Text))


def test_the_text_ends_in_front_of_it(tiny: Tiny) -> None:
    script = Script("A dog. END of it.")
    events = events_of(script, tiny(), stop=["\n", "END"])
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, join(events), answer.raw) == ("A dog.", "A dog. ", "A dog. END")
    assert (answer.finish_reason, answer.stop_sequence) == ("stop", "END")
    assert answer.to_dict()["stop_sequence"] == "END"
    (turn,) = answer.turns
    assert list(turn.generated_ids) == chat_of(tiny()).encode("A dog. END")
    assert turn.text == answer.raw
    assert answer.usage.generated_tokens == len(turn.generated_ids)
    # The last token is not computed.
    computed = len(turn.prompt_ids) + len(turn.generated_ids) - 1
    assert answer.usage.computed_tokens == computed


def test_one_text_is_a_sequence_of_one(tiny: Tiny) -> None:
    answer = answer_of(Script("A dog. END"), tiny(), stop="END")
    assert (answer.text, answer.stop_sequence) == ("A dog.", "END")


@pytest.mark.parametrize("stop", [(), [], "END", ["cat", "\n"]])
def test_a_turn_without_it_is_as_ever(stop: Any, tiny: Tiny) -> None:
    events = events_of(Script("A dog. EN"), tiny(), stop=stop)
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, join(events), answer.raw) == ("A dog. EN",) * 3
    assert (answer.finish_reason, answer.stop_sequence) == ("stop", None)


def test_a_piece_that_may_begin_it_is_held_back(tiny: Tiny) -> None:
    events = events_of(Script("aEbENcEND"), tiny(), stop="END")
    pieces = [event.piece for event in events if isinstance(event, Text)]
    assert pieces == ["a", "Eb", "ENc"]


@pytest.mark.parametrize("end", ["", "<|vision_end|>"])
def test_what_is_held_back_is_given_when_the_turn_ends(end: str, tiny: Tiny) -> None:
    events = events_of(Script(f"So EN{end}"), tiny(), stop="END")
    assert join(events) == "So EN"
    events = events_of(Script("So EN"), tiny(), stop="END", max_new_tokens=5)
    assert isinstance(events[-1], Finished)
    assert (join(events), events[-1].answer.finish_reason) == ("So EN", "length")


def test_at_the_last_allowed_token_it_is_a_stop(tiny: Tiny) -> None:
    answer = answer_of(Script("So END."), tiny(), stop="END", max_new_tokens=6)
    assert (answer.text, answer.finish_reason, answer.stop_sequence) == ("So", "stop", "END")


def test_a_character_of_several_tokens_stops(tiny: Tiny) -> None:
    events = events_of(Script("é 🐕 ê"), tiny(), stop="🐕")
    assert isinstance(events[-1], Finished)
    assert (join(events), events[-1].answer.raw) == ("é ", "é 🐕")


def test_a_look_that_was_asked_for_before_it_is_taken(tiny: Tiny) -> None:
    events = events_of(Script(f"Hm. {REGION} END", "A sign."), tiny(), stop="END")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    (look,) = answer.looks
    assert look.action == REGION_ACTION
    assert text_before_the_look(events) == "Hm.  "
    assert (answer.text, join(events)) == ("A sign.", "A sign.")
    assert (answer.finish_reason, answer.stop_sequence) == ("stop", None)
    expected = conversation(
        tiny(), FIRST, f"Hm. {REGION} END", "<image>", tokens=[PICTURE_TOKENS, look.tokens]
    )
    assert list(answer.turns[1].prompt_ids) == expected
    computed = len(expected) + len(answer.turns[1].generated_ids) - 1
    assert answer.usage.computed_tokens == computed


@pytest.mark.parametrize("said", [f"Hm. END {REGION}", f"Hm. END {CLIP}"])
def test_a_look_behind_it_is_never_asked_for(said: str, tiny: Tiny) -> None:
    answer = answer_of(Script(said, "A sign."), tiny(), stop="END")
    assert (answer.looks, len(answer.turns), answer.text) == ((), 1, "Hm.")
    assert (answer.raw, answer.stop_sequence) == ("Hm. END", "END")


def test_it_may_stand_around_what_is_not_shown(tiny: Tiny) -> None:
    """A person reads it; the look inside was asked for before it was complete."""
    events = events_of(Script(f"So E{CLIP}ND.", "Red."), tiny(), stop="END")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert text_before_the_look(events) == "So "
    assert [look.kind for look in answer.looks] == ["clip"]
    assert answer.turns[0].text == f"So E{CLIP}ND"
    answer = answer_of(Script(f"So E{CLIP}ND."), tiny(), stop="END", perception="off")
    assert (answer.text, answer.raw) == ("So", f"So E{CLIP}ND")


def test_what_is_held_back_comes_in_front_of_the_look(tiny: Tiny) -> None:
    events = events_of(Script(f"Hm. EN{REGION}", "D. A sign."), tiny(), stop="END")
    assert text_before_the_look(events) == "Hm. EN"
    assert join(events) == "D. A sign."


def test_it_ends_the_turn_behind_a_look(tiny: Tiny) -> None:
    events = events_of(Script(REGION, "A sign. END of it."), tiny(), stop="END")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, join(events), answer.stop_sequence) == ("A sign.", "A sign. ", "END")
    assert (len(answer.looks), answer.finish_reason) == (1, "stop")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"{OTHER}", "look_limit"),
        (f"{CLIP}{OTHER}", "mixed_triggers"),
        ("<|region_token_start|><|x_1|><|region_token_end|>", "malformed_region"),
    ],
)
def test_what_else_ends_a_request_is_still_said(said: str, reason: str, tiny: Tiny) -> None:
    answer = answer_of(Script(REGION, f"More {said} END"), tiny(), stop="END")
    assert (answer.finish_reason, answer.stop_sequence) == (reason, "END")
    assert (answer.text, answer.raw) == ("More", f"More {said} END")


def test_a_prefix_is_a_part_of_the_turn(tiny: Tiny) -> None:
    events = events_of(Script("ND of it."), tiny(), stop="END", assistant_prefix="So E")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, join(events), answer.raw) == ("So", "So ", "So END")
    events = events_of(Script("So."), tiny(), stop="END", assistant_prefix="An END. ")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, join(events), answer.raw) == ("An", "An ", "An END. S")


def test_the_next_question_knows_nothing_of_it(tiny: Tiny) -> None:
    script = Script("A dog. END of it.", "A cat. END of it.")
    with Pipeline(tiny(), opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        encoded.ask("What?", stop="END")
        answer = encoded.ask("Which?")
    assert (answer.text, answer.stop_sequence) == ("A cat. END of it.", None)


def test_a_real_tokens_text_is_cut_within_it(data: Path, exported: Exporter) -> None:
    samples = [json.loads(line) for line in data.read_text().splitlines()]
    sample = max(samples, key=lambda sample: len(sample["answer"]))
    picture = data.parent / sample["image"]
    options: Any = {"perception": sample["perception"]}
    with Pipeline(exported(TAGS)) as pipeline, pipeline.encode(picture) as encoded:
        whole = encoded.ask(sample["question"], **options)
        stop = whole.text[1:3]
        answer = encoded.ask(sample["question"], **options, stop=stop)
    assert len(whole.text) > 3
    assert (answer.text, answer.stop_sequence) == (whole.text[0], stop)
    ids = answer.turns[-1].generated_ids
    assert whole.turns[-1].generated_ids[: len(ids)] == ids
    assert whole.raw.startswith(answer.raw)
    assert len(answer.raw) > len(whole.text[:3])  # with what the token says behind it
