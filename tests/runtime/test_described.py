"""Described ways in the loop: a scripted model asks in their words, in one request on one cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chat_templates import PICTURE as SHOWN
from chat_templates import QWEN3, message, render
from descriptions import SHIPPED, call, rules_of
from PIL import Image
from scripted import PICTURE

from vpt_edge.runtime import Bundle, Crop, Finished, Looked, Pipeline, Refused, Text
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.manifest import write_manifest
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.perception.actions import Whole
from vpt_edge.runtime.perception.none import NoneConfig
from vpt_edge.runtime.perception.none import block as none_block
from vpt_edge.runtime.perception.rules import block
from vpt_edge.runtime.perception.thoughts import Thoughts
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime import Answer
    from vpt_edge.runtime.result import Event

LEFT = call([0, 0, 500, 1000])
NESTED = call([0, 0, 1000, 500], img_idx=1)
BAD = "<tool_call>{</tool_call>"
QUIET = {"sampling": None}  # without its hint
SMALL = {"look.resize.pixels": [784, 3136], "look.resize.multiple": 28, **QUIET}
TOKENS = 6


def bundle_of(folder: Path, perception: dict[str, Any]) -> Bundle:
    manifest = tiny_bundle(folder).manifest
    graphs = {name: manifest.graphs[name] for name in ("vision_encoder", "decoder")}
    write_manifest(replace(manifest, perception=perception, graphs=graphs), folder)
    return Bundle.open(folder)


def described(folder: Path, changes: dict[str, Any]) -> Bundle:
    return bundle_of(folder, block(rules_of({**SMALL, **changes})))


def events_of(bundle: Bundle, *turns: str, **options: Any) -> list[Event]:
    with Pipeline(bundle, opener=Script(*turns)) as pipeline:
        return list(pipeline.stream(PICTURE, "What?", **options))


def answer_of(bundle: Bundle, *turns: str, **options: Any) -> Answer:
    last = events_of(bundle, *turns, **options)[-1]
    assert isinstance(last, Finished)
    return last.answer


def prompt_of(rendered: str, tokens: list[int]) -> str:
    """A template's prompt with a token for each visual token of each picture."""
    first, *rest = rendered.split("<|image_pad|>")
    pads = ["<|image_pad|>" * count for count in tokens]
    return first + "".join(pad + text for pad, text in zip(pads, rest, strict=True))


def test_the_shipped_tool_looks_twice(tmp_path: Path) -> None:
    """The second time into the first crop."""
    bundle = described(tmp_path, {})
    events = events_of(bundle, LEFT, NESTED, "A sign.")
    first, second = [event for event in events if isinstance(event, Looked)]
    assert isinstance(first.action, Crop) and isinstance(second.action, Crop)
    assert (first.action.box, first.action.size) == ((0, 0, 48, 64), (56, 56))
    assert first.crop is not None and second.crop is not None
    crop = PICTURE.crop((0, 0, 48, 64)).resize((56, 56), Image.Resampling.BICUBIC)
    assert first.crop.tobytes() == crop.tobytes()
    assert (second.action.source, second.action.box) == (1, (0, 0, 56, 28))
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, answer.finish_reason) == ("A sign.", "stop")
    assert "".join(event.piece for event in events if isinstance(event, Text)) == "A sign."
    computed = len(answer.turns[-1].prompt_ids) + len(answer.turns[-1].generated_ids) - 1
    assert answer.usage.computed_tokens == computed  # each token once
    chat = Chat(bundle.tokenizer_file, {})
    asked = message("user", "", "What?")
    said = [message("assistant", LEFT), message("tool", "")]
    said += [message("assistant", NESTED), message("tool", "")]
    tokens = [TOKENS, first.tokens, second.tokens]
    for number, turn in enumerate(answer.turns):
        rendered = render(QWEN3, [asked, *said[: 2 * number]], SHIPPED["tools"])
        prompt = prompt_of(rendered, tokens[: number + 1])
        assert list(turn.prompt_ids) == chat.encode(prompt)


def test_calls_at_once_are_looked_at_in_one_round(tmp_path: Path) -> None:
    right = call([500, 0, 1000, 1000])
    events = events_of(described(tmp_path, {}), f"{LEFT}\n{BAD}\n{right}", "A sign.")
    looks = [event for event in events if isinstance(event, Looked)]
    assert [look.box for look in looks] == [(0, 0, 48, 64), (48, 0, 96, 64)]
    assert not any(isinstance(event, Refused) for event in events)
    assert isinstance(events[-1], Finished)
    assert len(events[-1].answer.turns) == 2


def test_a_bad_call_is_answered_and_the_model_goes_on(tmp_path: Path) -> None:
    events = events_of(described(tmp_path, {}), BAD, call([9, 9, 3, 3]), LEFT, "A sign.")
    replies = [event.reply for event in events if isinstance(event, Refused)]
    assert [reply.splitlines()[1].partition(":")[0] for reply in replies] == ["Error", "Error"]
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, len(answer.turns), len(answer.looks)) == ("A sign.", 4, 1)


def test_a_model_that_only_errs_comes_to_an_end(tmp_path: Path) -> None:
    answer = answer_of(described(tmp_path, {"rounds": 2}), *[BAD] * 9)
    assert (len(answer.turns), answer.looks, answer.finish_reason) == (3, (), "look_limit")


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_last_look_says_so(rounds: int, tmp_path: Path) -> None:
    bundle = described(tmp_path, {"rounds": 3, "hand_back.last": "\nAnswer now."})
    answer = answer_of(bundle, *[LEFT] * 9, max_looks=rounds)
    chat = Chat(bundle.tokenizer_file, {})
    last = "</tool_response>\nAnswer now.<|im_end|>"
    prompts = [chat._tokenizer.decode(turn.prompt_ids, False) for turn in answer.turns]
    assert [last in prompt for prompt in prompts] == [False] * rounds + [True]
    assert prompts[-1].count(last) == 1


def test_a_stop_text_ends_the_turn_and_stays(tmp_path: Path) -> None:
    changes = {
        "tools": [],
        "opening.system": "Look.",
        "call.opening": "<grounding>",
        "call.closing": "</grounding>",
        "call.form": "arguments",
        "call.name": None,
        "look.picture.by": "name",
        "look.picture.argument": "source",
        "look.picture.base": 1,
        "look.picture.original": "original_image",
        "look.picture.crop": "observation_",
        "look.box.coordinates": "unit",
        "hand_back.role": "user",
        "turn.stop": ["</grounding>"],
    }
    said = '<grounding>{"bbox_2d": [0, 0, 0.5, 1], "source": "original_image"}</grounding>'
    again = '<grounding>{"bbox_2d": [0, 0, 1, 0.5], "source": "observation_1"}</grounding>'
    bundle = described(tmp_path, changes)
    answer = answer_of(bundle, f"{said} and on.", f"{again} and on.", "A sign.")
    assert [turn.text for turn in answer.turns] == [said, again, "A sign."]
    assert [look.action.source for look in answer.looks if isinstance(look.action, Crop)] == [0, 1]


def test_a_first_view_may_be_smaller(tmp_path: Path) -> None:
    """And the look is the picture itself; no newline follows the turn, whose ids stay."""
    changes: dict[str, Any] = {
        **QUIET,
        "tools": [],
        "opening.system": None,
        "call.name": "resize_image",
        "look": {"picture": None, "box": None, "resize": None},
        "first_view": {"scale": 0.5, "least_side": 28, "resampling": "lanczos"},
        "hand_back.role": "user",
        "turn.newline": False,
        "rounds": 1,
    }
    bundle = bundle_of(tmp_path, block(rules_of(changes)))
    said = '<tool_call>{"name": "resize_image", "arguments": {"action": "resize"}}</tool_call>'
    script = Script(said, "A sign.")
    with Pipeline(bundle, opener=script) as pipeline:
        answer = pipeline.ask(PICTURE, "What?")
    (look,) = answer.looks
    assert look.action == Whole(0)
    tower = open_tower(bundle.manifest)
    views = [PICTURE.resize((48, 32), Image.Resampling.LANCZOS), PICTURE]
    seen = [each["patches"][0] for each in script.sessions["vision_encoder"].calls]
    for values, shown in zip(seen, views, strict=True):
        assert np.array_equal(values, tower.preprocess(shown, bundle.manifest.image).values)
    first, second = answer.turns
    chat = Chat(bundle.tokenizer_file, {})
    picture = SHOWN.replace("<|image_pad|>", "<|image_pad|>" * TOKENS)
    asked = f"<|im_start|>user\n{picture}What?<|im_end|>\n<|im_start|>assistant\n"
    back = f"<|im_end|><|im_start|>user\n{picture}<|im_end|>\n<|im_start|>assistant\n"
    assert list(first.prompt_ids) == chat.encode(asked)
    assert list(second.prompt_ids) == chat.encode(f"{asked}{said}{back}")


def test_perception_off_tells_of_no_tool_and_takes_no_call(tmp_path: Path) -> None:
    bundle = described(tmp_path, {})
    answer = answer_of(bundle, LEFT, perception="off")
    assert (answer.looks, answer.finish_reason, answer.raw) == ((), "stop", LEFT)
    prompt = Chat(bundle.tokenizer_file, {}).decode(answer.turns[0].prompt_ids)
    assert prompt == "user\nWhat?\nassistant\n"


def test_what_the_makers_recommend_is_told(tmp_path: Path) -> None:
    bundle = described(tmp_path, {"sampling": SHIPPED["sampling"]})
    with pytest.warns(UserWarning, match=r"recommend temperature=0\.7, top_k=20, top_p=0\.8"):
        answer_of(bundle, "A sign.")


def test_a_plain_model_answers_about_several_pictures(tmp_path: Path) -> None:
    thoughts = Thoughts("<think>", "</think>", prompted=True)
    bundle = bundle_of(tmp_path, none_block(NoneConfig("You help.", thoughts)))
    script = Script(f"Hm. {LEFT}</think>\n\nTwo signs.")
    with Pipeline(bundle, opener=script) as pipeline:
        answer = pipeline.ask([PICTURE, PICTURE], "What?")
    assert (answer.text, answer.looks, answer.finish_reason) == ("Two signs.", (), "stop")
    assert answer.thoughts == f"Hm. {LEFT}"
    chat = Chat(bundle.tokenizer_file, {})
    picture = SHOWN.replace("<|image_pad|>", "<|image_pad|>" * TOKENS)
    system = "<|im_start|>system\nYou help.<|im_end|>\n"
    user = f"<|im_start|>user\n{picture}{picture}What?<|im_end|>\n"
    expected = f"{system}{user}<|im_start|>assistant\n<think>\n"
    assert list(answer.turns[0].prompt_ids) == chat.encode(expected)
