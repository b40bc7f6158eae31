"""A described perception: whatever a model says gets a look, words, or is the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from descriptions import NAME, call, crop_view, rules_of, view, way_of
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.chat import Message
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.options import Options
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.perception.actions import Crop, Decision, Whole
from vpt_edge.runtime.perception.rules import block
from vpt_edge.runtime.perception.text import TextPerception
from vpt_edge.runtime.perception.views import View
from vpt_edge.runtime.perception.wording import RESERVED
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception import Perception

VIEWS = [view(800, 600, shown=(400, 300)), crop_view((0, 0, 400, 300))]
THINKING = {"opening": "<think>", "closing": "</think>", "prompted": True}
ORIGINAL = {"look.picture": None, "look.box": None, "look.resize": None}
FIRST = {
    "by": "first",
    "argument": None,
    "base": 0,
    "original": None,
    "crop": None,
    "missing": "refuse",
}
NAMED = {
    "look.picture.by": "name",
    "look.picture.argument": "label",
    "look.picture.original": "original",
    "look.picture.crop": "crop_",
}
BRACKETS: dict[str, Any] = {
    "tools": [],
    "opening.system": None,
    "call.form": "box",
    "call.name": None,
    "look.picture": FIRST,
    "look.box.argument": None,
}
WAYS: list[dict[str, Any]] = [
    {},
    {"call.which": "first", "turn.ids": "rendered", "hand_back.role": "user"},
    {"call.which": "last", "call.place": "end", "turn.thoughts": None},
    {"call.form": "arguments", "call.name": None, **NAMED},
    {"look.box.small": None, "look.box.outside": "refuse", "look.box.coordinates": "pixels_shown"},
    {"look.box.padding": {"of": "picture", "amount": 0.5}, "look.resize": None},
    {"turn.stop": ["</tool_call>"], "turn.thoughts": THINKING},
    {"hand_back.bad_call": "whole", "hand_back.error": ""},
    ORIGINAL,
    BRACKETS,
    {**BRACKETS, "call.opening": "", "call.closing": ""},
]
numbers = st.one_of(
    st.integers(-10, 1010),
    st.floats(),
    st.sampled_from([10**400, -(10**400), 1e308, -1e308, 5e-324, True, None, "1", "NaN", [1]]),
)
boxes = st.lists(numbers, min_size=4, max_size=4) | st.lists(numbers, max_size=6) | numbers
indices = st.integers(-2, 4) | numbers
labels = st.sampled_from(["original", "crop_0", "crop_1", "crop_9", "crop_", "a sign", 3, None])


@st.composite
def calls(draw: st.DrawFn) -> str:
    """A call that is well formed or not."""
    arguments = {"bbox_2d": draw(boxes), "label": draw(labels), "img_idx": draw(indices)}
    for name in draw(st.lists(st.sampled_from(sorted(arguments)), max_size=2)):
        arguments.pop(name, None)
    said = json.dumps({"name": draw(st.sampled_from([NAME, "zoom", None])), "arguments": arguments})
    said = draw(
        st.sampled_from([said, json.dumps(arguments), json.dumps(arguments.get("bbox_2d"))])
    )
    end = draw(st.integers(0, len(said)))
    said = draw(st.sampled_from([said, said, said, said[:end], said + said[:end]]))
    opening = draw(st.sampled_from(["<tool_call>", "<tool_call>\n", "<tool", ""]))
    closing = draw(st.sampled_from(["</tool_call>", "\n</tool_call>", "</tool", ""]))
    return f"{opening}{said}{closing}"


texts = st.lists(
    calls() | st.sampled_from(["<think>", "</think>", "\n", *RESERVED, "<image>", "[1, 2, 3, 4]"]),
    max_size=4,
).map("".join)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_bundle(tmp_path_factory.mktemp("bundle")).manifest


@pytest.fixture(scope="module")
def ways(manifest: Manifest) -> list[TextPerception]:
    return [way_of(manifest, changes) for changes in WAYS]


def test_it_keeps_to_the_protocol(manifest: Manifest) -> None:
    way: Perception = way_of(manifest, {})  # mypy holds it against the protocol
    assert way.can_look
    assert (way.usual_mode, way.hint("free"), way.forced(3)) == ("free", None, None)
    assert way.modes == ("free", "off")
    assert (way.encoder, way.action, way.longest_side) == (None, None, 0)


def test_the_manifest_names_it(manifest: Manifest) -> None:
    described = replace(manifest, perception=block(rules_of({})))
    assert isinstance(open_perception(described), TextPerception)
    assert described.kind == "text"


@given(texts, st.integers(-1, 3))
def test_any_text_has_its_decision(ways: list[TextPerception], text: str, left: int) -> None:
    for way in ways:
        decision = way.read(text, VIEWS, left)
        assert decision.reason in ("answer", "malformed_region")
        check_actions(decision)
        if decision.goes_on:
            assistant, user = way.follow_up(text, decision, VIEWS, left)
            assert (assistant.role, assistant.text) == ("assistant", text)
            assert user.role == "user"
            assert user.text.count("<image>") == len(decision.actions)
            assert not any(word in user.text for word in RESERVED)
            if decision.reply is not None:
                assert user.text == decision.reply
        assert way.answer(text) == way.answer(text).strip()
        way.thoughts_of(text)


def check_actions(decision: Decision) -> None:
    """Every crop lies inside of its view, and has a pixel at least."""
    for action in decision.actions:
        if isinstance(action, Whole):
            assert action.picture == 0
            continue
        assert isinstance(action, Crop)
        left, top, right, bottom = action.box
        width, height = VIEWS[action.source].size
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert action.size is None or min(action.size) >= 1


@given(calls())
def test_a_call_gets_a_look_or_words(ways: list[TextPerception], text: str) -> None:
    """One that is closed is never taken for the answer."""
    way = ways[0]
    decision = way.read(text, VIEWS, 3)
    is_call = "<tool_call>" in text and "</tool_call>" in text
    assert decision.goes_on == is_call
    assert (len(decision.actions) == 0) == (decision.reply is not None or not is_call)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (call([1000, 1000, 1100, 1100]), "the box lies outside of the picture"),
        (call([300, 100, 100, 200]), "the box has no area: its second corner is not right of and"),
        (call([100, 100, 100, 100]), "the box has no area"),
        (call([float("nan"), 0, 1, 1]), "bbox_2d is not a list of four numbers"),
        (call([0, 0, 1, 10**400]), "bbox_2d is not a list of four numbers"),
        (call(["0", "0", "1", "1"]), "bbox_2d is not a list of four numbers"),
        (call("0, 0, 1, 1"), "bbox_2d is not a list of four numbers"),
        (call([0, 0, 500, 500], img_idx=2), "img_idx names a picture that was not shown"),
        (call([0, 0, 500, 500], img_idx="0"), "img_idx is not a whole number"),
        ('<tool_call>{"name": </tool_call>', "the call is not JSON"),
        (
            '<tool_call>{"name": "zoom", "arguments": {}}</tool_call>',
            f"the only function is {NAME}",
        ),
        (f'<tool_call>{{"name": "{NAME}", "arguments": {{}}}}</tool_call>', "bbox_2d is missing"),
    ],
)
def test_a_bad_call_is_answered_in_words(said: str, reason: str, manifest: Manifest) -> None:
    decision = way_of(manifest, {}).read(said, VIEWS, 3)
    assert decision.actions == ()
    assert decision.reply is not None
    assert decision.reply.startswith(f"<tool_response>\nError: {reason}")


def test_a_crop_that_no_tower_takes_is_refused(manifest: Manifest) -> None:
    """The box is not too thin for the rule, but 45x9000 becomes 32x8992."""
    tall = [view(100, 9000)]
    decision = way_of(manifest, {}).read(call([0, 0, 450, 1000]), tall, 3)
    assert decision.reply is not None and "more than 200 times as long as wide" in decision.reply
    assert way_of(manifest, {}).read(call([0, 0, 500, 1000]), tall, 3).actions


def test_words_hold_nothing_that_the_model_said(manifest: Manifest) -> None:
    """It could stand for a picture, or end the turn."""
    said = call("<image><|im_end|>", label="<|image_pad|>")
    decision = way_of(manifest, {}).read(said, VIEWS, 3)
    assert decision.reply == (
        "<tool_response>\nError: bbox_2d is not a list of four numbers.\n</tool_response>"
    )


@pytest.mark.parametrize(("said", "looks"), [("A", 1), ("AB", 2), ("AXB", 2), ("XX", 0)])
def test_calls_at_once_are_answered_at_once(said: str, looks: int, manifest: Manifest) -> None:
    texts = {"A": call(), "B": call([0, 0, 9, 9]), "X": "<tool_call>{</tool_call>"}
    text = "".join(texts[letter] for letter in said)
    way = way_of(manifest, {})
    decision = way.read(text, VIEWS, 3)
    assert len(decision.actions) == looks
    assert (decision.reply is not None) == ("X" in said)
    _, user = way.follow_up(text, decision, VIEWS, 3)
    assert user.text.count("<tool_response>") == len(said)
    order = ["<image>" if letter != "X" else "Error: the call is not JSON." for letter in said]
    assert user.text.replace("<tool_response>\n", "").split("\n</tool_response>")[:-1] == [
        order[0],
        *(f"\n{part}" for part in order[1:]),
    ]


def test_a_call_within_thoughts_is_none(manifest: Manifest) -> None:
    way = way_of(manifest, {"turn.thoughts": THINKING})
    for text in (f"<think>\n{call()}</think>No.", f"<think>{call()}"):
        assert way.read(text, VIEWS, 3) == Decision(())
    assert way.read(f"<think>\n{call()}</think>{call([0, 0, 9, 9])}", VIEWS, 3).goes_on


def test_a_tag_of_thoughts_within_a_call_is_none(manifest: Manifest) -> None:
    """As what is shown has it: the call is hidden, and nothing is thought."""
    way = way_of(manifest, {"turn.thoughts": {**THINKING, "prompted": False}})
    for label in ("<think>", "a <think>b</think> sign", "</think>"):
        said = call([0, 0, 500, 500], label=label)
        assert len(way.read(said, VIEWS, 3).actions) == 1
        assert (way.answer(f"A. {said}"), way.thoughts_of(said)) == ("A.", None)


def test_a_call_that_is_cut_off_is_text(manifest: Manifest) -> None:
    said = call()
    way = way_of(manifest, {})
    for end in range(len(said)):
        assert way.read(said[:end], VIEWS, 3) == Decision(())
    assert way.read(said, VIEWS, 3).goes_on


def test_a_call_in_front_of_its_stop_text_counts(manifest: Manifest) -> None:
    way = way_of(manifest, {"turn.stop": ["</tool_call>"]})
    whole = way.read(call(), VIEWS, 3)
    assert way.stop == ("</tool_call>",)
    assert way.read(call().removesuffix("</tool_call>"), VIEWS, 3) == whole
    assert whole.actions


def test_a_look_may_be_the_original(manifest: Manifest) -> None:
    """Each picture of the request, in one turn."""
    first = {"scale": 0.5, "least_side": 28, "resampling": "lanczos"}
    way = way_of(manifest, {**ORIGINAL, "first_view": first, "hand_back.role": "user"})
    second = View(1, (0, 0, 64, 48), (64, 48), (56, 56))
    decision = way.read(call(), [VIEWS[0], second], 0)
    assert decision == Decision((Whole(0), Whole(1)))
    _, user = way.follow_up(call(), decision, [VIEWS[0], second], 0)
    assert user == Message("user", "<image>\n<image>")
    assert (way.first_size((640, 480)), way.first_resampling) == ((320, 240), "lanczos")
    assert way_of(manifest, {}).first_size((640, 480)) is None


def test_looks_are_numbered_over_everything_that_was_shown(manifest: Manifest) -> None:
    """Of two pictures a call shows both."""
    numbered = "{picture} is {view}, the look {number}, counted from {index}."
    way = way_of(manifest, {**ORIGINAL, "hand_back.role": "user", "hand_back.text": numbered})
    views = [VIEWS[0], View(1, (0, 0, 64, 48), (64, 48), (56, 56)), VIEWS[1]]
    said = call() * 2
    _, user = way.follow_up(said, way.read(said, views, 3), views, 3)
    assert user.text.splitlines() == [
        "<image>",
        "<image> is 3, the look 2, counted from 1.",
        "<image>",
        "<image> is 5, the look 4, counted from 3.",
    ]


@pytest.mark.parametrize("fence", ["```json", "```"])
def test_a_call_may_stand_in_a_fence(fence: str, manifest: Manifest) -> None:
    changes = {"call.opening": fence, "call.closing": "\n```", "call.form": "arguments"}
    way = way_of(manifest, {**changes, "call.name": None})
    said = f'See:\n{fence}\n{{"bbox_2d": [0, 0, 500, 1000]}}\n```\n'
    (crop,) = way.read(said, VIEWS, 3).actions
    assert isinstance(crop, Crop) and crop.box == (0, 0, 400, 600)
    assert way.answer(said) == "See:"


def test_a_crop_is_described_for_the_loop(manifest: Manifest) -> None:
    (crop,) = way_of(manifest, {}).read(call([0, 0, 500, 1000]), VIEWS, 3).actions
    assert crop == Crop(None, (0, 0, 400, 600), 0, (448, 640), "bicubic", (262144, 12845056))
    (other,) = way_of(manifest, {}).read(call(img_idx=1), VIEWS, 3).actions
    assert isinstance(other, Crop) and other.source == 1
    (plain,) = way_of(manifest, {"look.resize": None}).read(call(), VIEWS, 3).actions
    assert plain == Crop(None, (80, 60, 240, 240), 0)


@pytest.mark.parametrize("spelled", ["<image>", "<video>", "<|image_pad|>", "<|video_pad|>"])
def test_a_rendered_turn_that_spells_a_picture_ends(spelled: str, manifest: Manifest) -> None:
    """It would be prompted again as it is; generated ids stay what they are."""
    rendered = way_of(manifest, {"turn.ids": "rendered"})
    generated = way_of(manifest, {})
    text = f"A {spelled}: {call()}"
    assert not rendered.keeps_ids and generated.keeps_ids
    assert rendered.read(text, VIEWS, 3) == Decision((), "malformed_region")
    assert rendered.read(f"A {spelled}.", VIEWS, 3) == Decision(())
    assert len(generated.read(text, VIEWS, 3).actions) == 1


def test_the_last_look_ends_with_its_words(manifest: Manifest) -> None:
    way = way_of(manifest, {"hand_back.last": " Answer now."})
    for said in (call(), "<tool_call>{</tool_call>"):
        for left, expected in ((1, False), (0, True)):
            decision = way.read(said, VIEWS, left)
            _, user = way.follow_up(said, decision, VIEWS, left)
            assert user.text.endswith("</tool_response> Answer now.") == expected
            assert decision.reply in (None, user.text)


def test_a_turn_ends_by_its_rule(manifest: Manifest) -> None:
    for newline, end in ((True, "\n"), (False, "")):
        way = way_of(manifest, {"turn.newline": newline})
        assistant, _ = way.follow_up(call(), way.read(call(), VIEWS, 1), VIEWS, 1)
        assert assistant == Message("assistant", call(), end=end)


def test_what_a_call_holds_is_not_thought(manifest: Manifest) -> None:
    way = way_of(manifest, {})
    assert way.thoughts_of("<tool_call><think>a</think></tool_call>") is None


def test_an_answer_is_what_is_said_aloud(manifest: Manifest) -> None:
    way = way_of(manifest, {"turn.answer": ["<answer>", "</answer>"]})
    said = f"<think>Hm.</think>So {call()} <answer>A dog.</answer>\n"
    assert way.answer(said) == "So  A dog."
    assert way.thoughts_of(said) == "Hm."
    assert way.hidden_spans == (("<tool_call>", "</tool_call>"),)
    assert way.hidden_words == ("<answer>", "</answer>")
    assert way.thoughts == ("<think>", "</think>")
    plain = way_of(manifest, {**BRACKETS, "call.opening": "", "call.closing": ""})
    assert (plain.hidden_spans, plain.hidden_words) == ((), ())


def test_what_the_makers_recommend_is_told(manifest: Manifest) -> None:
    assert way_of(manifest, {}).sampling == {
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
        "presence_penalty": 1.5,
    }
    assert way_of(manifest, {"sampling": None}).sampling == {}
    sampling: dict[str, Any] = dict(way_of(manifest, {}).sampling)
    Options(**sampling)  # by the names of a question's options
    few = {"temperature": 1.0, "top_k": None, "top_p": None, "presence_penalty": 0.0}
    assert way_of(manifest, {"sampling": few}).sampling == {
        "temperature": 1.0,
        "presence_penalty": 0.0,
    }


@pytest.mark.parametrize("rounds", [1, 12])
def test_it_looks_as_often_as_its_rule_says(rounds: int, manifest: Manifest) -> None:
    assert way_of(manifest, {"rounds": rounds}).most_looks == rounds


def test_no_text_of_an_application_stands_for_a_picture(manifest: Manifest) -> None:
    way = way_of(manifest, {})
    with pytest.raises(PromptError, match="the system message holds <image>"):
        way.opening("What?", "free", system="<image>")
    with pytest.raises(PromptError, match="the assistant_prefix holds"):
        way.check_prefix("<|image_pad|>")
    with pytest.raises(PromptError, match="expected one of: free, off"):
        way.opening("What?", "region")
    with pytest.raises(PromptError, match="the question holds <image>, <image>: each"):
        way.opening("<image><image>?", "free")


def test_a_system_message_with_fields_is_not_filled_in(manifest: Manifest) -> None:
    first = way_of(manifest, {}).opening("{pictures}?", "free", system="{tools}")
    assert first[0].text.startswith("{tools}\n\n# Tools")
    assert first[-1].text == "<image>{pictures}?"
