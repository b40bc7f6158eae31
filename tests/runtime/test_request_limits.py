"""What a look would add is counted before anything is encoded: what does not fit costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from scripted import (
    CLIP,
    FIRST,
    OTHER,
    PICTURE,
    PICTURE_TOKENS,
    REGION,
    Tiny,
    answer_of,
    chat_of,
    conversation,
    trigger,
)

from vpt_edge.runtime import Pipeline, VptError
from vpt_edge.runtime.errors import ImageError, PromptError
from vpt_edge.runtime.options import LOOKS_A_TURN
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from vpt_edge.runtime import Answer

REGION_TOKENS = 6  # of what REGION shows of PICTURE, 60x24 pixels


def lines(count: int) -> str:
    return "".join(f"Region {index}: <image>\n" for index in range(count))


def check_first_turn_alone(answer: Answer, reason: str, script: Script) -> None:
    assert (answer.finish_reason, answer.looks, len(answer.turns)) == (reason, (), 1)
    assert answer.usage.vision_runs == 1
    assert len(script.sessions["vision_encoder"].calls) == 1
    assert not script.sessions["reencoder_projector"].calls


@pytest.mark.parametrize("count", [110, LOOKS_A_TURN])
def test_looks_that_the_cache_does_not_hold_are_not_encoded(count: int, tiny: Tiny) -> None:
    script = Script(f"So {REGION * count}")
    answer = answer_of(script, tiny())
    check_first_turn_alone(answer, "length", script)
    assert (answer.text, answer.raw) == ("So", f"So {REGION * count}")


def test_more_looks_than_a_turn_may_have_are_not_encoded(tiny: Tiny) -> None:
    script = Script(REGION * (LOOKS_A_TURN + 1))
    answer = answer_of(script, tiny(capacity=16384))
    check_first_turn_alone(answer, "look_limit", script)


def test_as_many_looks_as_a_turn_may_have_are_taken(tiny: Tiny) -> None:
    answer = answer_of(Script(REGION * LOOKS_A_TURN, "Yes."), tiny(capacity=16384))
    assert (answer.finish_reason, len(answer.looks)) == ("stop", LOOKS_A_TURN)
    assert answer.text == "Yes."


@pytest.mark.parametrize(
    ("said", "shown", "tokens"),
    [
        (REGION, "<image>", [REGION_TOKENS]),
        (REGION + REGION, lines(2), [REGION_TOKENS] * 2),
        (CLIP, "<clip_image>", [PICTURE_TOKENS]),
    ],
)
def test_the_count_is_exact(said: str, shown: str, tokens: list[int], tiny: Tiny) -> None:
    prompt = conversation(tiny(), FIRST, said, shown, tokens=[PICTURE_TOKENS, *tokens])
    script = Script(said, "Yes.")
    answer = answer_of(script, tiny(capacity=len(prompt)))
    assert [look.tokens for look in answer.looks] == tokens
    assert (answer.text, answer.finish_reason) == ("Y", "length")  # the last token needs no place
    script = Script(said, "Yes.")
    check_first_turn_alone(answer_of(script, tiny(capacity=len(prompt) - 1)), "length", script)


@pytest.mark.parametrize("kind", ["detection", "seg"])
def test_a_second_encoder_is_counted_too(kind: str, tiny: Tiny) -> None:
    script = Script(trigger(kind))
    check_first_turn_alone(answer_of(script, tiny(kind, 300)), "length", script)
    assert not script.sessions["reencoder_features"].calls


def test_a_later_look_that_does_not_fit_keeps_the_earlier_one(tiny: Tiny) -> None:
    script = Script(REGION, f"So {OTHER * 40}")
    answer = answer_of(script, tiny(capacity=700), max_looks=2)
    assert (answer.finish_reason, len(answer.looks), len(answer.turns)) == ("length", 1, 2)
    assert answer.text == "So"


def test_a_crop_too_thin_to_be_shown_keeps_the_turn(tiny: Tiny) -> None:
    picture = Image.new(
        "RGB", (5000, 10)
    )  # shown as 512x1, but of two rows of cells nothing is left
    script = Script("So <|region_token_start|><|x_0|><|x_7|><|y_0|><|region_token_end|>")
    with Pipeline(tiny(), opener=script) as pipeline:
        answer = pipeline.ask(picture, "What?")
    check_first_turn_alone(answer, "malformed_region", script)
    assert answer.text == "So"


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (3, 500)])
def test_crops_of_tiny_pictures_are_shown_as_ever(size: tuple[int, int], tiny: Tiny) -> None:
    for cells in ("<|x_0|><|y_0|>", "<|x_7|><|y_7|>"):
        said = f"<|region_token_start|>{cells}<|region_token_end|>"
        with Pipeline(tiny(), opener=Script(said, "Yes.")) as pipeline:
            answer = pipeline.ask(Image.new("RGB", size), "What?")
        assert (answer.finish_reason, len(answer.looks)) == ("stop", 1)


def test_too_long_a_question_encodes_nothing(tiny: Tiny) -> None:
    script = Script()
    with (
        Pipeline(tiny(capacity=64), opener=script) as pipeline,
        pytest.raises(PromptError, match="the cache takes 64; shorten the question"),
    ):
        pipeline.ask(PICTURE, "What?" * 20)
    assert not script.sessions["vision_encoder"].calls


def test_too_thin_a_picture_encodes_nothing(tiny: Tiny) -> None:
    script = Script()
    with Pipeline(tiny(), opener=script) as pipeline, pytest.raises(ImageError, match="too thin"):
        pipeline.ask(Image.new("RGB", (4000, 1)), "What?")
    assert not script.sessions["vision_encoder"].calls


PAD = "<|image_pad|>"
SPELLED = [PAD, "<|clip_image_pad|>", "<image>", "<clip_image>", "<video>"]


def spell(text: str) -> str:
    """In tokens of letters, as a model says it: an id that decodes to nothing keeps them apart."""
    return text.replace("image", "im<|endoftext|>age").replace("video", "vi<|endoftext|>deo")


@pytest.mark.parametrize("spelled", SPELLED)
@pytest.mark.parametrize("way", ["question", "prefix", "turn", "turn behind", "prefix and turn"])
def test_no_way_in_gives_places_without_visual_tokens(way: str, spelled: str, tiny: Tiny) -> None:
    """A prompt has as many places as visual tokens, or there is none."""
    half = len(spelled) // 2
    said = {"turn": spell(spelled) + REGION, "turn behind": REGION + spell(spelled)}
    options: dict[str, Any] = {}
    if way == "prefix":
        options["assistant_prefix"] = spelled
    elif way == "prefix and turn":
        options["assistant_prefix"] = spelled[:half]
        said[way] = spelled[half:] + REGION
    question = f"What {spelled}?" if way == "question" else "What?"
    script = Script(said.get(way, REGION), "Yes.")
    with Pipeline(tiny(), opener=script) as pipeline:
        try:
            answer = pipeline.ask(PICTURE, question, **options)
        except VptError:
            assert not script.sessions["decoder"].calls
            return
    pads = {chat_of(tiny()).encode(pad)[0] for pad in (PAD, "<|clip_image_pad|>")}
    for index, turn in enumerate(answer.turns):
        shown = PICTURE_TOKENS + sum(look.tokens for look in answer.looks[:index])
        assert sum(token in pads for token in turn.prompt_ids) == shown
