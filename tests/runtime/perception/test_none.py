"""A model that never looks again: its opening, and what of its text is the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vpt_edge.runtime.chat import Message
from vpt_edge.runtime.errors import BundleError, PromptError
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.perception.actions import Decision
from vpt_edge.runtime.perception.none import NoLook, NoneConfig, block
from vpt_edge.runtime.perception.thoughts import Thoughts
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception import Perception

SYSTEM = "You help."
THOUGHTS = Thoughts("<think>", "</think>", prompted=True)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_bundle(tmp_path_factory.mktemp("bundle")).manifest


def way(
    manifest: Manifest, system: str | None = SYSTEM, thoughts: Thoughts | None = None
) -> NoLook:
    described = block(NoneConfig(system, thoughts))
    perception = open_perception(replace(manifest, perception=described))
    assert isinstance(perception, NoLook)
    return perception


def test_it_keeps_to_the_protocol(manifest: Manifest) -> None:
    plain: Perception = way(manifest)  # mypy holds it against the protocol
    assert plain.keeps_ids


def test_it_never_looks(manifest: Manifest) -> None:
    plain = way(manifest)
    assert (plain.can_look, plain.most_looks, plain.encoder, plain.action) == (False, 0, None, None)
    assert plain.read('<tool_call>{"name": "zoom"}</tool_call>', [], 0) == Decision(())
    assert plain.forced(0) is None and plain.hint("free") is None
    assert plain.first_size((64, 48)) is None


@pytest.mark.parametrize("count", [1, 2, 5])
def test_its_pictures_stand_in_front_of_the_question(count: int, manifest: Manifest) -> None:
    """As the families' templates have them: without a line between."""
    opening = way(manifest).opening("What?", "free", pictures=count)
    question = Message("user", "<image>" * count + "What?")
    assert opening == [Message("system", SYSTEM), question]


def test_a_question_may_place_its_pictures(manifest: Manifest) -> None:
    opening = way(manifest).opening("Is <image> in <image>?", "free", pictures=2)
    assert opening[-1] == Message("user", "Is <image> in <image>?")
    for asked in ("<image>?", "<image><image><image>?", "<image><clip_image>?"):
        with pytest.raises(PromptError, match="for a picture, expected 2; place each <image> once"):
            way(manifest).opening(asked, "free", pictures=2)


def test_a_template_without_a_system_message_gets_none(manifest: Manifest) -> None:
    plain = way(manifest, system=None)
    assert plain.opening("What?", "free") == [Message("user", "<image>What?")]
    own = plain.opening("What?", "free", system="Be brief.")
    assert own[0] == Message("system", "Be brief.")


def test_the_history_has_the_pictures_with_its_first_question(manifest: Manifest) -> None:
    history = (("Which?", "That."), ("Where?", "There."))
    opening = way(manifest, system=None).opening("What?", "off", history, pictures=2)
    texts = [message.text for message in opening]
    assert texts == ["<image><image>Which?", "That.", "Where?", "There.", "What?"]
    assert [message.role for message in opening] == ["user", "assistant"] * 2 + ["user"]


@pytest.mark.parametrize("spelled", ["<image>", "<video>", "<|image_pad|>", "<|video_pad|>"])
def test_nothing_else_may_stand_for_a_picture(spelled: str, manifest: Manifest) -> None:
    plain = way(manifest)
    for history in ((("Which?", spelled),), (("Which?", "That."), (spelled, "There."))):
        with pytest.raises(PromptError, match="of the history holds"):
            plain.opening("What?", "free", history)
    with pytest.raises(PromptError, match="the question holds"):
        plain.opening(f"What {spelled}?", "free", (("Which?", "That."),))
    with pytest.raises(PromptError, match="the system message holds"):
        plain.opening("What?", "free", system=spelled)
    with pytest.raises(PromptError, match="the assistant_prefix holds"):
        plain.check_prefix(spelled)
    plain.check_prefix("It is")


@pytest.mark.parametrize("mode", ["region", "reencode", "Free"])
def test_it_says_which_modes_it_has(mode: str, manifest: Manifest) -> None:
    with pytest.raises(PromptError, match="expected one of: free, off"):
        way(manifest).opening("What?", mode)  # type: ignore[arg-type]


def test_its_answer_is_what_it_says_aloud(manifest: Manifest) -> None:
    thinking = way(manifest, thoughts=THOUGHTS)
    said = "<think>\nA dog or a cat?\n</think>\n\nA dog.\n"
    assert thinking.turn_prefix == "<think>\n"
    assert thinking.answer(said) == "A dog."
    assert thinking.thoughts_of(said) == "A dog or a cat?"
    assert way(manifest).answer(" A dog.\n") == "A dog."
    assert way(manifest).thoughts_of(said) is None
    assert way(manifest).turn_prefix == ""


def test_its_block_is_held_against_its_config(manifest: Manifest) -> None:
    for wrong in ({"name": "none"}, {**block(NoneConfig(None, None)), "tools": []}):
        with pytest.raises(BundleError, match=r"manifest\.json: perception has other keys"):
            open_perception(replace(manifest, perception=wrong))
