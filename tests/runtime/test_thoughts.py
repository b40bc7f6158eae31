"""What a model thinks: an event of its own, apart from the answer's text."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import PICTURE
from zoom import call, zoom_bundle

from vpt_edge.runtime import Bundle, Finished, Looked, Pipeline, Text, Thought
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime.result import Event

ZOOM = call((8, 4, 40, 28))


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    return zoom_bundle(tmp_path, monkeypatch)


def events_of(bundle: Bundle, *turns: str, **options: Any) -> list[Event]:
    with Pipeline(bundle, opener=Script(*turns)) as pipeline:
        return list(pipeline.stream(PICTURE, "What?", **options))


def joined(events: list[Event], kind: type[Text] | type[Thought]) -> str:
    return "".join(event.piece for event in events if isinstance(event, kind))


def test_thoughts_are_apart_from_the_answer(bundle: Bundle) -> None:
    events = events_of(bundle, "<think>\nHm, é.\n</think>\n\nA dog.")
    assert (joined(events, Thought), joined(events, Text)) == ("Hm, é.", "A dog.")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, answer.thoughts) == ("A dog.", "Hm, é.")
    assert answer.raw == "<think>\nHm, é.\n</think>\n\nA dog."
    assert answer.to_dict()["thoughts"] == "Hm, é."
    assert len([event for event in events if isinstance(event, Thought)]) > 3  # as they come


def test_those_of_each_turn_are_kept(bundle: Bundle) -> None:
    events = events_of(bundle, f"<think>Small.</think>Let me see. {ZOOM}", "<think>Red.</think>Red")
    index = [type(event) for event in events].index(Looked)
    assert joined(events[:index], Thought) == "Small."
    assert joined(events[:index], Text) == "Let me see. "
    assert joined(events[index:], Thought) == "Red."
    assert joined(events[index:], Text) == "Red"
    assert isinstance(events[-1], Finished)
    assert (events[-1].answer.thoughts, events[-1].answer.text) == ("Small.\n\nRed.", "Red")


def test_a_prompt_may_open_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = zoom_bundle(tmp_path, monkeypatch, turn_prefix="<think>\n")
    events = events_of(bundle, "Hm.</think>\nNo", assistant_prefix="Well. ")
    assert (joined(events, Thought), joined(events, Text)) == ("Well. Hm.", "No")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, answer.thoughts) == ("No", "Well. Hm.")
    assert answer.raw == "<think>\nWell. Hm.</think>\nNo"


def test_what_is_cut_while_it_thinks_has_no_answer(bundle: Bundle) -> None:
    events = events_of(bundle, "<think>Hm, hm, hm", max_new_tokens=12)
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, answer.thoughts, answer.finish_reason) == ("", "Hm, h", "length")


def test_where_nothing_is_thought_there_is_none(bundle: Bundle) -> None:
    events = events_of(bundle, "<think>\n</think>A dog.")
    assert isinstance(events[-1], Finished)
    assert events[-1].answer.thoughts is None
    assert not any(isinstance(event, Thought) for event in events)


def test_an_event_loop_is_told_too(bundle: Bundle) -> None:
    async def follow(pipeline: Pipeline) -> list[Event]:
        return [event async for event in pipeline.astream(PICTURE, "What?")]

    said = "<think>Hm.</think>A dog."
    with Pipeline(bundle, opener=Script(said)) as pipeline:
        events = asyncio.run(follow(pipeline))
    assert (joined(events, Thought), joined(events, Text)) == ("Hm.", "A dog.")


WORDS = ["<think>", "</think>", "<call>", "</call>", "<answer>", "a", " ", "é", "<", "\n"]


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), max_size=9))
def test_what_is_streamed_is_what_is_answered(
    words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bundle = zoom_bundle(tmp_path_factory.mktemp("zoom"), patch, most_looks=0)
        events = events_of(bundle, "".join(words) or "a")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert joined(events, Text).strip() == answer.text
    assert joined(events, Thought) == (answer.thoughts or "")


def test_what_the_makers_recommend_is_said_and_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = zoom_bundle(tmp_path, monkeypatch, sampling={"temperature": 0.7, "top_p": 0.8})
    expected = "the likeliest token is taken; .* recommend temperature=0.7, top_p=0.8"
    with Pipeline(bundle, opener=Script("a", "b", "c")) as pipeline:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipeline.ask(PICTURE, "A?", temperature=0.0)  # who has chosen needs no hint
        with pytest.warns(UserWarning, match=expected):
            pipeline.ask(PICTURE, "B?")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipeline.ask(PICTURE, "C?")  # once
