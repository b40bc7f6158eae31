"""Rounds: how many there are, what a bad call costs, and what follows the ids of a turn."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from scripted import PICTURE
from zoom import REPLY, call, zoom_bundle

from vpt_edge.runtime import Bundle, Finished, Looked, Pipeline, Refused
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.testing import Script, ScriptedSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vpt_edge.runtime import Answer
    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.result import Event
    from vpt_edge.runtime.sessions import Session

BAD = "<call>{</call>"
ZOOM = call((8, 4, 40, 28))
LOOK = f"<|vision_start|>{'<|image_pad|>' * 6}<|vision_end|>"  # of 32x24 pixels


@pytest.fixture
def open_zoom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bundle]:
    return lambda **block: zoom_bundle(tmp_path, monkeypatch, **block)


def events_of(bundle: Bundle, *turns: str, **options: Any) -> list[Event]:
    with Pipeline(bundle, opener=Script(*turns)) as pipeline:
        return list(pipeline.stream(PICTURE, "What?", **options))


def answer_of(bundle: Bundle, *turns: str, **options: Any) -> Answer:
    last = events_of(bundle, *turns, **options)[-1]
    assert isinstance(last, Finished)
    return last.answer


def added(answer: Answer, bundle: Bundle) -> list[str]:
    """What stands in each turn's prompt behind the one before, as text with its special tokens."""
    chat = Chat(bundle.tokenizer_file, {})
    texts = []
    for turn, follower in itertools.pairwise(answer.turns):
        ids = list(follower.prompt_ids[len(turn.prompt_ids) :])
        texts.append(chat._tokenizer.decode(ids, skip_special_tokens=False))
    return texts


def test_a_bad_call_is_answered_in_words(open_zoom: Callable[..., Bundle]) -> None:
    bundle = open_zoom()
    events = events_of(bundle, BAD, ZOOM, "Yes.")
    kinds = [event for event in events if isinstance(event, Refused | Looked)]
    assert kinds[0] == Refused(REPLY)
    assert [type(event) for event in kinds] == [Refused, Looked]
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, answer.finish_reason, len(answer.turns)) == ("Yes.", "stop", 3)
    refused, looked = added(answer, bundle)
    head = "<|im_end|>\n<|im_start|>user\n"
    tail = "<|im_end|>\n<|im_start|>assistant\n"
    assert refused == f"{BAD}{head}{REPLY}{tail}"
    assert looked == f"{ZOOM}{head}{LOOK} 2 left{tail}"


@pytest.mark.parametrize(
    ("options", "looks"), [({}, 2), ({"max_looks": 1}, 1), ({"max_looks": 0}, 0)]
)
def test_the_rounds_end(open_zoom: Callable[..., Bundle], options: Any, looks: int) -> None:
    answer = answer_of(open_zoom(most_looks=2), *[ZOOM] * 3, **options)
    assert (len(answer.looks), len(answer.turns)) == (looks, looks + 1)
    expected = "look_limit" if looks else "stop"  # of no rounds nothing is read
    assert answer.finish_reason == expected


def test_a_model_that_only_errs_comes_to_an_end(open_zoom: Callable[..., Bundle]) -> None:
    answer = answer_of(open_zoom(most_looks=3), *[BAD] * 9)
    assert (len(answer.turns), answer.finish_reason, answer.looks) == (4, "look_limit", ())


def test_a_call_that_was_cut_is_not_answered(open_zoom: Callable[..., Bundle]) -> None:
    answer = answer_of(open_zoom(), ZOOM, max_new_tokens=9)
    assert (answer.finish_reason, len(answer.turns), answer.text) == ("length", 1, "")


def test_a_reply_that_the_cache_does_not_hold_ends_it(open_zoom: Callable[..., Bundle]) -> None:
    answer = answer_of(open_zoom(), "x" * 1930 + BAD, "Yes.", max_new_tokens=2000)
    assert (answer.finish_reason, len(answer.turns)) == ("length", 1)


class Ids:
    """Opens sessions that say just these ids."""

    def __init__(self, *turns: list[int]) -> None:
        self._turns = turns

    def __call__(self, model: Model, name: str, /) -> Session:
        return ScriptedSession(model, name, self._turns)


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("prefix", ["", "It "])
@pytest.mark.parametrize("turn_prefix", ["", "<think>\n"])
def test_the_ids_of_a_turn_stay_as_they_were_generated(
    open_zoom: Callable[..., Bundle], end: str, prefix: str, turn_prefix: str
) -> None:
    bundle = open_zoom(end=end, turn_prefix=turn_prefix)
    chat = Chat(bundle.tokenizer_file, {})
    (stop, *_) = bundle.manifest.tokens.end
    accent = chat.encode("\u0301")
    said = [*chat.encode("e"), *accent, *chat.encode(f"</think>{ZOOM}")]
    assert chat.encode(chat.decode(said)) != said  # the tokenizer joins the letter and its accent
    with Pipeline(bundle, opener=Ids([*said, stop], [*chat.encode("Yes."), stop])) as pipeline:
        answer = pipeline.ask(PICTURE, "What?", assistant_prefix=prefix)
    first, second = answer.turns
    begun = len(first.prompt_ids) + len(said)
    assert second.prompt_ids[:begun] == first.prompt_ids + tuple(said)
    handed = chat.encode(f"<|im_end|>{end}<|im_start|>user\n{LOOK} 3 left<|im_end|>\n")
    handed += chat.encode("<|im_start|>assistant\n") + chat.encode(turn_prefix)
    assert list(second.prompt_ids[begun:]) == handed
    # Of the second round only what is new was computed, and of both not the last token.
    usage = answer.usage
    assert usage.computed_tokens == len(second.prompt_ids) + len(second.generated_ids) - 1
    assert usage.reused_tokens == begun


def test_else_the_text_is_encoded_again(open_zoom: Callable[..., Bundle]) -> None:
    bundle = open_zoom(keeps_ids=False)
    chat = Chat(bundle.tokenizer_file, {})
    said = [*chat.encode("e"), *chat.encode("\u0301"), *chat.encode(ZOOM)]
    (stop, *_) = bundle.manifest.tokens.end
    with Pipeline(bundle, opener=Ids([*said, stop], chat.encode("Yes."))) as pipeline:
        answer = pipeline.ask(PICTURE, "What?")
    first, second = answer.turns
    again = chat.encode(chat.decode(said))
    assert list(second.prompt_ids[len(first.prompt_ids) :][: len(again)]) == again
    assert answer.usage.reused_tokens == len(first.prompt_ids)


def test_a_stop_text_of_its_own_ends_a_turn_and_stays_in_it(
    open_zoom: Callable[..., Bundle],
) -> None:
    bundle = open_zoom(stop=["</call>"])
    answer = answer_of(bundle, f"Hm. {ZOOM} and so on", "Yes.")
    assert (answer.turns[0].text, answer.text) == (f"Hm. {ZOOM}", "Yes.")
    (looked,) = added(answer, bundle)
    assert looked.startswith(f"Hm. {ZOOM}<|im_end|>\n<|im_start|>user\n{LOOK}")
    assert answer.finish_reason == "stop" and answer.stop_sequence is None
    assert len(answer.looks) == 1


def test_a_questions_stop_text_is_looked_for_in_what_is_shown(
    open_zoom: Callable[..., Bundle],
) -> None:
    said = "<think>END</think>A <call>END</call>dog END."
    answer = answer_of(open_zoom(), said, stop="END", max_looks=0)
    assert (answer.text, answer.thoughts, answer.stop_sequence) == ("A dog", "END", "END")
