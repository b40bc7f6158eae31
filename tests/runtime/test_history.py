"""A question behind earlier ones about the same picture: what the model reads, and what of it is
computed again.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from golden import GOLDEN, TAGS, Exporter, needs_golden
from pictures import patchify
from scripted import (
    CLIP,
    FIRST,
    PICTURE,
    PICTURE_TOKENS,
    REGION,
    REGION_ACTION,
    Tiny,
    answer_of,
    chat_of,
    conversation,
)
from tables import TABLES, table

from vpt_edge.runtime import Exchange, Pipeline, Reencode
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.perception.vpt import pads_of
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from pathlib import Path

WHICH = "<image>\nWhich?"
HISTORY = (Exchange("Which?", "That."),)


def asked_on(row: dict[str, Any]) -> bool:
    """Whether the picture stands in front of the first question alone."""
    first, *later = [message["content"] for message in row["messages"]]
    return len(row["messages"]) > 1 and first.startswith("<image>\n") and "image" not in str(later)


ASKED_ON = [row for row in table("template").get("conversations", []) if asked_on(row)]


@needs_golden
@pytest.mark.parametrize("row", ASKED_ON)
def test_several_turns_are_the_authors(row: dict[str, Any], tiny: Tiny) -> None:
    texts = [message["content"] for message in row["messages"]]
    texts[0] = texts[0].removeprefix("<image>\n")
    way = open_perception(tiny().manifest)
    history = list(zip(texts[0:-1:2], texts[1:-1:2], strict=True))
    messages = way.opening(texts[-1], "free", history)
    chat = Chat(GOLDEN / "models" / "clip" / "tokenizer.json", pads_of("clip"))
    patches = patchify(open_picture(TABLES / "images" / row["images"][0]))
    shown = Encoded(np.zeros((len(patches.values) // 4, 4), np.float32), patches.grid)
    assert chat.context(messages, [shown]).ids == row["prompt_ids"]


@pytest.mark.parametrize("perception", ["free", "off", "region", "reencode"])
def test_the_model_reads_the_turns_in_order(perception: str, tiny: Tiny) -> None:
    history = [("Which?", "That."), ("{{idx}}?", "{{idx}}!")]
    answer = answer_of(Script("Yes."), tiny(), history=history, perception=perception)
    alone = answer_of(Script("Yes."), tiny(), perception=perception)
    prompt = chat_of(tiny()).decode(alone.turns[0].prompt_ids)
    last = prompt.partition("user\n\n")[2].removesuffix("\nassistant\n")
    assert last.startswith("What?")
    expected = conversation(tiny(), WHICH, "That.", "1?", "{{idx}}!", last, tokens=[PICTURE_TOKENS])
    assert list(answer.turns[0].prompt_ids) == expected
    assert (answer.text, answer.question) == ("Yes.", "What?")


def test_without_a_history_nothing_changes(tiny: Tiny) -> None:
    answer = answer_of(Script("Yes."), tiny(), history=[])
    prompt = conversation(tiny(), FIRST, tokens=[PICTURE_TOKENS])
    assert list(answer.turns[0].prompt_ids) == prompt


@pytest.mark.parametrize(
    ("said", "shown", "action"),
    [(REGION, "<image>", REGION_ACTION), (CLIP, "<clip_image>", Reencode("clip"))],
)
def test_a_look_comes_behind_the_last_question(
    said: str, shown: str, action: Any, tiny: Tiny
) -> None:
    """Though an answer of the history names a region, too."""
    history = [("Which?", REGION)]
    answer = answer_of(Script(said, "Yes."), tiny(), history=history, assistant_prefix="So ")
    (look,) = answer.looks
    assert (look.action, answer.text) == (action, "Yes.")
    again = said if said == CLIP else f"So {said}"
    tokens = [PICTURE_TOKENS, look.tokens]
    expected = conversation(tiny(), WHICH, REGION, "What?", again, shown, tokens=tokens)
    assert list(answer.turns[1].prompt_ids) == expected


def test_a_place_of_the_picture_is_the_first_questions(tiny: Tiny) -> None:
    history = [("What is in <image>?", "A dog.")]
    answer = answer_of(Script("Yes."), tiny(), history=history)
    expected = conversation(
        tiny(), "What is in <image>?", "A dog.", "What?", tokens=[PICTURE_TOKENS]
    )
    assert list(answer.turns[0].prompt_ids) == expected
    with Pipeline(tiny(), opener=Script()) as pipeline:
        problem = "the question holds <image>: the picture stands in the history's first question"
        with pytest.raises(PromptError, match=problem):
            pipeline.stream(PICTURE, "What is in <image>?", history=history)


@pytest.mark.parametrize("text", ["<|image_pad|>", "<image>", "<|clip_action|>"])
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_text_that_stands_for_a_picture_encodes_nothing(
    text: str, place: tuple[int, int], tiny: Tiny
) -> None:
    history = [["Is <image> it?", "No."], ["Why?", "So."]]
    history[place[0]][place[1]] += text
    script = Script()
    number = place[0] + 1
    with (
        Pipeline(tiny(), opener=script) as pipeline,
        pytest.raises(PromptError, match=f"the (question|answer) {number} of the history holds"),
    ):
        pipeline.stream(PICTURE, "What?", history=[(first, last) for first, last in history])
    assert not script.sessions["vision_encoder"].calls


def test_too_long_a_history_is_refused(tiny: Tiny) -> None:
    with (
        Pipeline(tiny(capacity=64), opener=Script()) as pipeline,
        pytest.raises(PromptError, match="the cache takes 64; shorten the question or its history"),
    ):
        pipeline.ask(PICTURE, "What?", history=[("Which?", "That." * 20)])


def test_a_question_behind_its_history_computes_what_is_new(tiny: Tiny) -> None:
    """Of an answer that is given back as it was said even its words are not computed again."""
    script = Script("That.", "Yes.", "So.", "Hm.")
    with Pipeline(tiny(), opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        first = encoded.ask("Which?")
        second = encoded.ask("What?", history=[("Which?", first.text)])
        third = encoded.ask("Why?", history=[("Which?", first.text), ("What?", second.text)])
        other = encoded.ask("Why?", history=[("Which?", "This.")])
    answers = (first, second, third)
    for before, answer in itertools.pairwise(answers):
        known = len(before.turns[0].prompt_ids) + len(before.turns[0].generated_ids) - 1
        prompt = answer.turns[0].prompt_ids
        said = len(answer.turns[0].generated_ids)
        assert answer.usage.reused_tokens == known
        assert answer.usage.computed_tokens == len(prompt) - known + said - 1
        assert answer.usage.vision_runs == 0
    asked = conversation(tiny(), WHICH, "Th", "", tokens=[PICTURE_TOKENS])
    end = conversation(tiny(), WHICH, "", "", tokens=[PICTURE_TOKENS])
    first_question = conversation(tiny(), WHICH, tokens=[PICTURE_TOKENS])
    assert other.usage.reused_tokens == len(first_question) + len(asked) - len(end)


def test_behind_a_look_the_first_question_is_kept(tiny: Tiny) -> None:
    """The answer is given back without the look that it followed."""
    script = Script(REGION, "That.", "Yes.")
    with Pipeline(tiny(), opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        first = encoded.ask("Which?")
        second = encoded.ask("What?", history=[("Which?", first.text)])
    prompt = first.turns[0].prompt_ids
    assert second.turns[0].prompt_ids[: len(prompt)] == prompt
    assert second.usage.reused_tokens == len(prompt)
    assert second.usage.vision_runs == 0


def test_an_answer_behind_a_history_is_the_one_of_a_single_request(
    data: Path, exported: Exporter
) -> None:
    """Of a real model, whose cache still holds the earlier question."""
    bundle = exported(TAGS)
    samples = [json.loads(line) for line in data.read_text().splitlines()]
    picture = data.parent / samples[0]["image"]
    texts = [sample["question"] for sample in samples if sample["image"] == samples[0]["image"]]
    with Pipeline(bundle) as pipeline, pipeline.encode(picture) as encoded:
        first = encoded.ask(texts[0])
        history = [Exchange(texts[0], first.text)]
        answers = [encoded.ask(text, history=history, keep_logits=True) for text in texts[1:3]]
    for text, answer in zip(texts[1:3], answers, strict=True):
        with Pipeline(bundle) as pipeline:
            alone = pipeline.ask(picture, text, history=history, keep_logits=True)
        assert answer.turns == alone.turns
        for turn, expected in zip(answer.turns, alone.turns, strict=True):
            assert turn.logits is not None and expected.logits is not None
            np.testing.assert_allclose(turn.logits, expected.logits, atol=5e-4)
        known = len(first.turns[0].prompt_ids)
        assert answer.usage.reused_tokens >= alone.usage.reused_tokens + known
