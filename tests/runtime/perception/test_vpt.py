"""Visual Perception Tokens in a conversation: the question's form, what is forced, and how a look
is handed back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from vpt_edge.runtime.chat import Message
from vpt_edge.runtime.errors import BundleError, PromptError
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.perception.actions import Crop, Decision, Reencode
from vpt_edge.runtime.perception.views import View
from vpt_edge.runtime.perception.vpt import (
    KINDS,
    Vpt,
    VptConfig,
    action_tokens,
    block,
    pads_of,
)
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.perception import Perception

REGION = "Identify the region that can help you answer the question, and then answer the question"
SIZE = (640, 480)
VIEWS = [View(0, (0, 0, *SIZE), SIZE, (644, 476))]
SAID = "<|region_token_start|><|x_2|><|y_3|><|region_token_end|>"
CROP = Crop((2, 3, 2, 3), (80, 120, 320, 300))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp(kind), kind)


@pytest.fixture(scope="module")
def vpt(bundle: Bundle) -> Vpt:
    return Vpt(bundle.manifest)


def changed(bundle: Bundle, **values: Any) -> Vpt:
    """Of a checkpoint whose block has other ``values``."""
    perception = {**bundle.manifest.perception, **values}
    return Vpt(replace(bundle.manifest, source="Some-VPT", perception=perception))


def test_the_manifest_names_it(bundle: Bundle) -> None:
    way: Perception = Vpt(bundle.manifest)  # mypy holds it against the protocol
    assert isinstance(open_perception(bundle.manifest), type(way))


def test_a_config_is_a_block_of_the_manifest(bundle: Bundle) -> None:
    triggers = (*range(10, 28), 4, 5, 6)
    config = VptConfig("clip", True, 3, 4, 5, triggers, 512)
    assert block(config) == {
        "name": "vpt",
        "kind": "clip",
        "prompt_triggered": True,
        "reencode_pad": 3,
        "action_start": 4,
        "action": 5,
        "triggers": list(triggers),  # as JSON has it: a manifest need not be written to be read
        "longest_side": 512,
    }
    vpt = Vpt(replace(bundle.manifest, perception=block(config)))
    assert (vpt.action, vpt.hidden_ids, vpt.longest_side) == (5, frozenset(triggers), 512)
    assert vpt.token_ids["<|clip_action|>"] == 5


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("action", None, "has the id None, expected"),
        ("action", 3, "has the id 3, expected"),
        ("action_start", 3, "has the id 3, expected"),
        ("reencode_pad", None, "reencode_pad is missing"),
        ("triggers", [1, 2], "2 triggers, expected 21 or none"),
        ("triggers", [], "has the id .*, expected None"),
    ],
)
def test_ids_that_contradict_each_other_are_refused(
    key: str, value: object, problem: str, bundle: Bundle
) -> None:
    perception = {**bundle.manifest.perception, key: value}
    with pytest.raises(BundleError, match=f"perception: .*{problem}"):
        Vpt(replace(bundle.manifest, perception=perception))


def test_what_a_checkpoint_of_each_kind_has(vpt: Vpt, kind: str, bundle: Bundle) -> None:
    encoders = {"clip": None, "detection": "dinov2", "seg": "sam"}
    assert vpt.encoder == encoders[kind]
    assert vpt.pads == {"image": "<|image_pad|>", f"{kind}_image": f"<|{kind}_image_pad|>"}
    assert vpt.pads == pads_of(kind)
    assert vpt.can_look
    assert vpt.action == bundle.manifest.perception["action"]
    assert vpt.hidden_ids == set(bundle.manifest.perception["triggers"])
    assert vpt.longest_side == {"clip": 512, "detection": 512, "seg": 1024}[kind]
    assert action_tokens(kind) == tuple(f"<|{kind}_action{end}|>" for end in ("_start", "", "_end"))


def test_an_alignment_checkpoint_never_looks(bundle: Bundle) -> None:
    vpt = changed(bundle, reencode_pad=None, action_start=None, action=None, triggers=[])
    assert not vpt.can_look
    assert (vpt.action, vpt.hidden_ids) == (None, frozenset())
    assert vpt.forced(7) is None


def test_the_conversation_opens_as_the_authors_do(vpt: Vpt) -> None:
    assert vpt.opening("What is it?", "region") == [
        Message("system", "You are a helpful assistant."),
        Message("user", f"<image>\nWhat is it? \n{REGION}."),
    ]
    assert vpt.opening("Is <image> it?", "off")[1] == Message("user", "Is <image> it?")


def test_the_sentence_stands_with_the_last_question_alone(vpt: Vpt) -> None:
    assert vpt.opening("What is it?", "region", [("Which?", "That.")]) == [
        Message("system", "You are a helpful assistant."),
        Message("user", "<image>\nWhich?"),
        Message("assistant", "That."),
        Message("user", f"What is it? \n{REGION}."),
    ]
    assert vpt.opening("What?", "free", [("Which?", "That.")])[-1] == Message("user", "What?")


def test_behind_a_history_a_question_stands_for_no_picture(vpt: Vpt, kind: str) -> None:
    history = [("Which?", "That.")]
    for question in ("<image>", f"<{kind}_image>", f"<|{kind}_action|>", "<|image_pad|>"):
        with pytest.raises(PromptError, match=r"the question holds .*; remove it"):
            vpt.opening(question, "free", history)
    other: Any = "both"
    with pytest.raises(PromptError, match="expected one of: region, reencode, free, off"):
        vpt.opening("q", other, history)


@pytest.mark.parametrize("system", ["Be brief.", "", "<|im_end|>", "{{idx}}", "<|x_0|>"])
def test_another_system_message_takes_the_place_of_the_authors(system: str, vpt: Vpt) -> None:
    for history in ([], [("Which?", "That.")]):
        first, *rest = vpt.opening("What is it?", "region", history, system)
        assert first == Message("system", system)
        assert rest == vpt.opening("What is it?", "region", history)[1:]


def test_a_system_message_stands_for_no_picture(vpt: Vpt, kind: str) -> None:
    for text in ("<image>", f"<{kind}_image>", f"<|{kind}_action|>", "<|image_pad|>", "<video>"):
        with pytest.raises(PromptError, match=r"the system message holds .*; remove it"):
            vpt.opening("q", "free", system=f"See {text}.")
    with pytest.raises(PromptError, match="the system message is not valid text"):
        vpt.opening("q", "free", system="a\ud800")


def test_an_opening_refuses_what_cannot_be_put(vpt: Vpt, kind: str) -> None:
    for question in ("<image><image>", f"<{kind}_image>", f"<|{kind}_action|>", "<|image_pad|>"):
        with pytest.raises(PromptError, match="remove it"):
            vpt.opening(question, "free")
    other: Any = "both"
    with pytest.raises(PromptError, match="expected one of: region, reencode, free, off"):
        vpt.opening("q", other)


@pytest.mark.parametrize(
    "prefix", ["", "A ", SAID, "<|region_token_start|>", "<|im_end|>", "< image >", "<|x_0|>"]
)
def test_a_prefix_may_begin_anything(prefix: str, vpt: Vpt, kind: str) -> None:
    vpt.check_prefix(prefix)
    vpt.check_prefix(f"{prefix}<|{kind}_action_start|><|{kind}_action|><|{kind}_action_end|>")


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("a <image>", "<image>"),
        ("<clip_image>", "<clip_image>"),
        ("<detection_image> <seg_image>", "<detection_image>, <seg_image>"),
        ("<video>", "<video>"),
        ("<|image_pad|>", "<|image_pad|>"),
        ("a<|video_pad|>", "<|video_pad|>"),
    ],
)
def test_a_prefix_stands_for_no_picture(prefix: str, found: str, vpt: Vpt) -> None:
    with pytest.raises(PromptError) as error:
        vpt.check_prefix(prefix)
    assert error.value.problem == (
        f"the assistant_prefix holds {found}, which stands for a picture or an action"
    )
    assert error.value.fix == "remove it"


def test_a_prefix_holds_no_pad_of_its_own_kind(vpt: Vpt, kind: str) -> None:
    for other in KINDS:
        pad = f"<|{other}_image_pad|>"
        if other == kind:
            with pytest.raises(PromptError, match="the assistant_prefix holds"):
                vpt.check_prefix(pad)
        else:
            vpt.check_prefix(pad)  # it is no token there


@pytest.mark.parametrize("prefix", [None, b"A", 3])
def test_a_prefix_is_text(prefix: Any, vpt: Vpt) -> None:
    with pytest.raises(PromptError, match=r"the assistant_prefix is .*, expected text"):
        vpt.check_prefix(prefix)


def test_a_prefix_has_no_lone_surrogates(vpt: Vpt) -> None:
    with pytest.raises(PromptError, match="the assistant_prefix is not valid text"):
        vpt.check_prefix("a\ud800")


def test_only_a_checkpoint_that_waits_for_the_sentence_gives_a_hint(bundle: Bundle) -> None:
    waiting = changed(bundle, prompt_triggered=True)
    hint = waiting.hint("free")
    assert hint is not None
    assert hint.startswith("Some-VPT was trained to look again when the question asks for it")
    assert 'perception="region" or "reencode"' in hint
    assert [waiting.hint(mode) for mode in ("region", "reencode", "off")] == [None] * 3
    assert changed(bundle, prompt_triggered=False).hint("free") is None


def test_behind_the_start_comes_the_action(vpt: Vpt, bundle: Bundle) -> None:
    perception = bundle.manifest.perception
    assert vpt.forced(perception["action_start"]) == perception["action"]
    others = set(range(400)) - {perception["action_start"]}
    assert {vpt.forced(token) for token in others} == {None}


def test_a_turn_is_read_by_the_grammar_of_its_kind(vpt: Vpt, kind: str) -> None:
    assert vpt.read(f"Hm. {SAID}", VIEWS, 1) == Decision((CROP,))
    assert vpt.read(f"<|{kind}_action_start|>", VIEWS, 1) == Decision((Reencode(kind),))
    assert vpt.read("A dog.", VIEWS, 1) == Decision(())
    foreign = "clip" if kind == "seg" else "seg"
    assert vpt.read(f"<|{foreign}_action_start|>", VIEWS, 1) == Decision((), "foreign_trigger")


@pytest.mark.parametrize(
    "spelled",
    [
        *("<image>", "<clip_image>", "<detection_image>", "<seg_image>", "<video>"),
        *("<|image_pad|>", "<|video_pad|>"),
    ],
)
def test_a_region_beside_what_stands_for_pictures_is_malformed(spelled: str, vpt: Vpt) -> None:
    """The turn is prompted again as it is: it would stand for pictures that are not there."""
    for text in (spelled + SAID, f"{SAID}a {spelled}", f"{SAID} {spelled} {SAID}"):
        assert vpt.read(text, VIEWS, 1) == Decision((), "malformed_region")
    assert vpt.read(f"A {spelled}", VIEWS, 1) == Decision(())  # an answer: prompted no more


def test_a_region_beside_the_reencoders_pad_is_malformed(vpt: Vpt, kind: str) -> None:
    for other in KINDS:
        reason = "malformed_region" if other == kind else "answer"  # it is no token elsewhere
        assert vpt.read(f"{SAID}<|{other}_image_pad|>", VIEWS, 1).reason == reason


def test_what_a_reencode_says_besides_is_dropped(vpt: Vpt, kind: str) -> None:
    """The turn becomes the canonical one, so that nothing of it can stand for a picture."""
    text = f"<image><|image_pad|> Hm <|{kind}_action_start|>"
    decision = vpt.read(text, VIEWS, 1)
    assert decision == Decision((Reencode(kind),))
    assert vpt.follow_up(text, decision, VIEWS, 0) == [
        Message("assistant", f"<|{kind}_action_start|><|{kind}_action|><|{kind}_action_end|>"),
        Message("user", f"<{kind}_image>"),
    ]


def test_a_region_is_handed_back_behind_its_own_words(vpt: Vpt) -> None:
    text = f"Hm. {SAID}"
    assert vpt.follow_up(text, Decision((CROP,)), VIEWS, 0) == [
        Message("assistant", text),
        Message("user", "<image>"),
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_several_regions_are_numbered(count: int, vpt: Vpt) -> None:
    lines = ["Region 0: <image>\n", "Region 1: <image>\n", "Region 2: <image>\n"]
    assert vpt.follow_up(SAID * count, Decision((CROP,) * count), VIEWS, 0) == [
        Message("assistant", SAID * count),
        Message("user", "".join(lines[:count])),
    ]


def test_an_answer_has_no_triggers(vpt: Vpt, kind: str) -> None:
    assert vpt.answer(f" A {SAID}dog<|{kind}_action|>. ") == "A dog."


def test_an_unknown_key_of_its_block_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: perception has .*: unknown scale"):
        changed(bundle, scale=1)
