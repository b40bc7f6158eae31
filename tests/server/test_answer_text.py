from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import CLIP, OTHER, PICTURE, REGION

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.result import Looked
from vpt_edge.runtime.testing import Script
from vpt_edge.server.answer_text import AnswerText
from vpt_edge.server.chat_reply import ChatReply
from vpt_edge.server.chat_stream import ChatStream
from vpt_edge.server.completions import last_answer
from vpt_edge.server.ollama_reply import OllamaReply, OllamaStream
from vpt_edge.server.plain_answer import PlainAnswer, PlainEvents

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.server.event_stream import Renderer
    from vpt_edge.server.plain_answer import PlainEvent

WORDS = ["A dog.", " ", "\n", "\t ", "<", "<|", "|>", "<|x_1|", "<b>", "é", "猫", "🐕", "\u2028"]
TRIGGERS = [REGION, OTHER, CLIP, "<|x_1|>", "<|clip_action_start|>", "<|region_token_start|>"]
SPELLED = ["<|detection_action_start|>", "<|seg_action|>", "<|detection_action_end|>"]


def turns(parts: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), min_size=1, max_size=8).map("".join)


def ask(bundle: Bundle, script: list[str], options: AskOptions) -> list[PlainEvent]:
    # A turn that is asked for and was not written would be an error of the script.
    opener = Script(*script, *["The end."] * 4)
    with Pipeline(bundle, opener=opener) as pipeline:
        return list(PlainEvents(pipeline.stream(PICTURE, "What?", **options), False))


def pieces_of(bundle: Bundle, events: list[PlainEvent], options: AskOptions) -> list[str]:
    text = AnswerText(options, open_perception(bundle.manifest))
    return [text.take(event) for event in events]


def answer_of(events: list[PlainEvent]) -> PlainAnswer:
    assert isinstance(events[-1], PlainAnswer)
    return events[-1]


OPTIONS = st.fixed_dictionaries(
    {
        "perception": st.sampled_from(["free", "off"]),
        "max_looks": st.integers(0, 2),
        "max_new_tokens": st.sampled_from([1, 2, 7, 200]),
        "assistant_prefix": st.sampled_from(["", " It", "<"]),
        "stop": st.sampled_from([(), (".",), ("dog", "\n"), ("<",), ("<|x_1|>", "猫")]),
    }
)
QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(st.lists(turns(WORDS + TRIGGERS + SPELLED), min_size=1, max_size=3), OPTIONS)
def test_pieces_are_the_answer_whatever_the_model_says(
    bundle: Bundle, script: list[str], options: Any
) -> None:
    events = ask(bundle, script, options)
    answer = answer_of(events)
    assert "".join(pieces_of(bundle, events, options)) == answer.text


@QUICK
@given(st.lists(turns(WORDS + TRIGGERS + SPELLED), min_size=1, max_size=3), OPTIONS)
def test_nothing_is_said_before_a_look(bundle: Bundle, script: list[str], options: Any) -> None:
    events = ask(bundle, script, options)
    said = ""
    for event, piece in zip(events, pieces_of(bundle, events, options), strict=True):
        if isinstance(event, Looked):
            assert said == ""
        said += piece


def test_text_comes_while_it_is_generated_when_no_look_may_follow(bundle: Bundle) -> None:
    options: AskOptions = {"perception": "off"}
    events = ask(bundle, ["  A dog <|x_1|> is <b>. \n"], options)
    pieces = [piece for piece in pieces_of(bundle, events, options) if piece]
    assert "".join(pieces) == "A dog  is <b>."
    assert len(pieces) > 5
    assert pieces[0] == "A"


def test_text_waits_where_a_look_may_follow(bundle: Bundle) -> None:
    options: AskOptions = {"perception": "free"}
    events = ask(bundle, ["A dog."], options)
    assert [piece for piece in pieces_of(bundle, events, options) if piece] == ["A dog."]


def test_a_stream_that_was_cut_within_a_character_says_what_is_sure(bundle: Bundle) -> None:
    """The same text streamed and at once, even where the runtime has another one."""
    options: AskOptions = {"perception": "off", "max_new_tokens": 3}
    events = ask(bundle, ["A猫"], options)
    assert answer_of(events).text.startswith("A\ufffd")
    assert "".join(pieces_of(bundle, events, options)) == answer_of(events).text


def render(renderer: Renderer, events: list[PlainEvent]) -> str:
    pieces = [renderer.take(event) for event in events]
    return b"".join([renderer.begin(), *pieces]).decode()


def said_by_openai(body: str) -> str:
    lines = [line.removeprefix("data: ") for line in body.split("\n") if line]
    assert lines.pop() == "[DONE]"
    choices = [json.loads(line)["choices"][0] for line in lines]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def said_by_ollama(body: str) -> str:
    parts = [json.loads(line) for line in body.split("\n") if line]
    return "".join(part["message"]["content"] for part in parts)


def no_details(answer: PlainAnswer) -> dict[str, Any]:
    return {}


async def each_of(events: list[PlainEvent]) -> AsyncGenerator[PlainEvent, None]:
    for event in events:
        yield event


@QUICK
@given(st.lists(turns(WORDS + TRIGGERS + SPELLED), min_size=1, max_size=3), OPTIONS)
def test_an_answer_is_the_same_streamed_and_at_once(
    bundle: Bundle, script: list[str], options: Any
) -> None:
    events = ask(bundle, script, options)
    perception = open_perception(bundle.manifest)
    at_once, _ = asyncio.run(last_answer(each_of(events), AnswerText(options, perception)))
    openai = ChatStream(ChatReply("tiny"), AnswerText(options, perception), False, no_details)
    assert said_by_openai(render(openai, events)) == at_once
    ollama = OllamaStream(OllamaReply("chat", "tiny", {}), AnswerText(options, perception))
    assert said_by_ollama(render(ollama, events)) == at_once
    assert at_once == answer_of(events).text
