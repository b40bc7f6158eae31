"""A request from the question to the answer: what is looked at, what is prompted again, and what
ends it.
"""

from __future__ import annotations

import numpy as np
import pytest
from scripted import (
    CLIP,
    FIRST,
    OTHER,
    OTHER_ACTION,
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
    trigger,
)

from vpt_edge.runtime import Finished, Looked, Reencode, Text
from vpt_edge.runtime.testing import Script


def test_a_turn_without_triggers_is_the_answer(tiny: Tiny) -> None:
    script = Script("A dog.")
    events = events_of(script, tiny())
    assert [type(event) for event in events] == [Text] * 6 + [Finished]
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, answer.raw, str(answer), join(events)) == ("A dog.",) * 4
    assert (answer.finish_reason, answer.looks, len(answer.turns)) == ("stop", (), 1)
    assert (answer.question, answer.image) == ("What?", PICTURE)
    (turn,) = answer.turns
    assert list(turn.prompt_ids) == conversation(tiny(), FIRST, tokens=[PICTURE_TOKENS])
    assert list(turn.generated_ids) == [
        *chat_of(tiny()).encode("A dog."),
        tiny().manifest.tokens.end[0],
    ]
    assert len(script.sessions["vision_encoder"].calls) == 1
    assert not script.sessions["reencoder_projector"].calls


def test_one_region_is_cropped_and_seen(tiny: Tiny) -> None:
    script = Script(f"Hm. {REGION}", "A sign.")
    events = events_of(script, tiny())
    assert [type(event) for event in events] == [Text] * 4 + [Looked] + [Text] * 7 + [Finished]
    looked = events[4]
    finished = events[-1]
    assert isinstance(looked, Looked) and isinstance(finished, Finished)
    assert looked.action == REGION_ACTION
    assert looked.kind == "region"
    assert (looked.cells, looked.box) == (REGION_ACTION.cells, REGION_ACTION.box)
    assert looked.crop is not None
    assert looked.crop.tobytes() == PICTURE.crop(REGION_ACTION.box).tobytes()
    answer = finished.answer
    assert answer.looks == (looked,)
    assert (answer.text, answer.finish_reason, join(events)) == ("A sign.", "stop", "A sign.")
    assert [turn.text for turn in answer.turns] == [f"Hm. {REGION}", "A sign."]
    expected = conversation(
        tiny(), FIRST, f"Hm. {REGION}", "<image>", tokens=[PICTURE_TOKENS, looked.tokens]
    )
    assert list(answer.turns[1].prompt_ids) == expected


def test_two_regions_are_numbered_and_seen_in_order(tiny: Tiny) -> None:
    script = Script(REGION + OTHER, "Yes.")
    answer = answer_of(script, tiny())
    assert [look.action for look in answer.looks] == [REGION_ACTION, OTHER_ACTION]
    tokens = [look.tokens for look in answer.looks]
    user = "Region 0: <image>\nRegion 1: <image>\n"
    expected = conversation(tiny(), FIRST, REGION + OTHER, user, tokens=[PICTURE_TOKENS, *tokens])
    assert list(answer.turns[1].prompt_ids) == expected
    encodes = script.sessions["vision_encoder"].calls
    shown = [call["patches"].shape[1] // 4 for call in encodes]
    assert shown == [PICTURE_TOKENS, *tokens]
    assert answer.usage.vision_runs == 3


def test_crops_are_spliced_behind_the_picture(tiny: Tiny) -> None:
    """The scripted encoder gives the number of its run as features."""
    script = Script(REGION, "Yes.")
    answer = answer_of(script, tiny())
    pad = tiny().manifest.tokens.image_pad
    prompt = answer.turns[1].prompt_ids
    places = [index for index, token in enumerate(prompt) if token == pad]
    rows = np.concatenate([call["embeds"][0, :, 0] for call in script.sessions["decoder"].calls])
    assert rows[places].tolist() == [1] * PICTURE_TOKENS + [2] * answer.looks[0].tokens


def test_clip_looks_again_at_the_same_features(tiny: Tiny) -> None:
    script = Script(CLIP, "Red.")
    answer = answer_of(script, tiny())
    (look,) = answer.looks
    assert (look.action, look.tokens, look.kind) == (Reencode("clip"), PICTURE_TOKENS, "clip")
    assert (look.cells, look.box, look.crop) == (None, None, None)
    assert (answer.text, answer.usage.vision_runs, answer.usage.reencoder_runs) == ("Red.", 1, 1)
    assert len(script.sessions["vision_encoder"].calls) == 1
    (projected,) = script.sessions["reencoder_projector"].calls
    np.testing.assert_array_equal(
        projected["features"], script.sessions["vision_encoder"].outputs[0]["features"]
    )
    expected = conversation(
        tiny(), FIRST, CLIP, "<clip_image>", tokens=[PICTURE_TOKENS, PICTURE_TOKENS]
    )
    assert list(answer.turns[1].prompt_ids) == expected


@pytest.mark.parametrize(("kind", "side"), [("detection", 224), ("seg", 1024)])
def test_other_encoders_see_the_pixels(kind: str, side: int, tiny: Tiny) -> None:
    script = Script(trigger(kind), "Red.")
    answer = answer_of(script, tiny(kind))
    assert [(look.action, look.tokens) for look in answer.looks] == [(Reencode(kind), 256)]
    (call,) = script.sessions["reencoder_features"].calls
    assert call["pixels"].shape == (1, 3, side, side)
    (projected,) = script.sessions["reencoder_projector"].calls
    np.testing.assert_array_equal(
        projected["features"], script.sessions["reencoder_features"].outputs[0]["features"]
    )
    expected = conversation(
        tiny(kind), FIRST, trigger(kind), f"<{kind}_image>", tokens=[PICTURE_TOKENS, 256]
    )
    assert list(answer.turns[1].prompt_ids) == expected


def test_the_condition_is_the_state_in_front_of_the_action(tiny: Tiny) -> None:
    script = Script(CLIP, "Red.")
    answer_of(script, tiny())
    decoder = script.sessions["decoder"]
    (projected,) = script.sessions["reencoder_projector"].calls
    steps = [index for index, call in enumerate(decoder.calls) if call["embeds"].shape[1] == 1]
    action = steps[1]
    before = decoder.outputs[action - 1]["hidden"]
    np.testing.assert_array_equal(decoder.calls[action]["embeds"][0], before)
    np.testing.assert_array_equal(projected["condition"], before)


def test_a_kept_turn_is_not_computed_again(tiny: Tiny) -> None:
    script = Script(CLIP, "Red.")
    answer = answer_of(script, tiny())
    first, second = answer.turns
    computed = sum(call["embeds"].shape[1] for call in script.sessions["decoder"].calls)
    usage = answer.usage
    assert usage.computed_tokens == computed
    # The end token is not computed.
    assert computed == len(second.prompt_ids) + len(second.generated_ids) - 1
    assert usage.reused_tokens == len(first.prompt_ids) + len(first.generated_ids) - 1
    assert usage.prompt_tokens == len(second.prompt_ids)
    assert usage.generated_tokens == len(first.generated_ids) + len(second.generated_ids)
    assert set(usage.seconds) == {"preprocess", "vision", "reencode", "prefill", "decode", "total"}
    assert usage.seconds["total"] == pytest.approx(sum(usage.seconds.values()) / 2)


def test_a_preamble_before_a_reencode_is_forgotten(tiny: Tiny) -> None:
    answer = answer_of(Script(f"Hm. {CLIP}", "Red."), tiny())
    first, second = answer.turns
    expected = conversation(
        tiny(), FIRST, CLIP, "<clip_image>", tokens=[PICTURE_TOKENS, PICTURE_TOKENS]
    )
    assert list(second.prompt_ids) == expected
    assert answer.usage.reused_tokens == len(first.prompt_ids)
    computed = len(first.prompt_ids) + len(first.generated_ids) - 1
    computed += len(second.prompt_ids) - len(first.prompt_ids) + len(second.generated_ids) - 1
    assert answer.usage.computed_tokens == computed


GIVEN_UP = [
    (CLIP + REGION, "mixed_triggers"),
    ("<|region_token_start|><|x_1|><|region_token_end|>", "malformed_region"),
    ("<|detection_action_start|>", "foreign_trigger"),
]


@pytest.mark.parametrize(("said", "reason"), GIVEN_UP)
def test_what_the_authors_code_gives_up_on_is_the_answer(
    said: str, reason: str, tiny: Tiny
) -> None:
    answer = answer_of(Script(f"So {said}"), tiny())
    assert (answer.finish_reason, answer.text, answer.raw) == (reason, "So", f"So {said}")
    assert (answer.looks, len(answer.turns)) == ((), 1)


# `<|endoftext|>` is neither an end nor in the text: a turn spells the words by ordinary tokens.
@pytest.mark.parametrize(
    "spelled",
    [
        "<image>",
        "<clip_image>",
        "<video>",
        "<im<|endoftext|>age>",
        "<|image<|endoftext|>_pad|>",
        "<|video<|endoftext|>_pad|>",
        "<|clip_image<|endoftext|>_pad|>",
    ],
)
@pytest.mark.parametrize("place", ["{}" + REGION, REGION + "{}", REGION + "{}" + OTHER])
def test_a_turn_that_spells_a_picture_beside_a_region_is_malformed(
    spelled: str, place: str, tiny: Tiny
) -> None:
    """Prompted again as it is, it would stand for a picture that is not there."""
    answer = answer_of(Script(place.format(spelled), "A sign."), tiny())
    said = place.format(spelled.replace("<|endoftext|>", ""))
    assert (answer.finish_reason, answer.raw) == ("malformed_region", said)
    assert (answer.looks, len(answer.turns), answer.usage.vision_runs) == ((), 1, 1)


def test_a_turn_that_spells_a_picture_beside_a_reencode_looks_again(tiny: Tiny) -> None:
    """Its words are dropped."""
    answer = answer_of(Script(f"<image><|image<|endoftext|>_pad|>{CLIP}", "Red."), tiny())
    assert ([look.action for look in answer.looks], answer.text) == ([Reencode("clip")], "Red.")
    expected = conversation(
        tiny(), FIRST, CLIP, "<clip_image>", tokens=[PICTURE_TOKENS, PICTURE_TOKENS]
    )
    assert list(answer.turns[1].prompt_ids) == expected


@pytest.mark.parametrize("perception", ["free", "region", "reencode"])
@pytest.mark.parametrize(("said", "kind"), [(REGION, "region"), (CLIP, "clip")])
def test_any_trigger_is_honoured(perception: str, said: str, kind: str, tiny: Tiny) -> None:
    answer = answer_of(Script(said, "Yes."), tiny(), perception=perception)
    assert [look.kind for look in answer.looks] == [kind]


@pytest.mark.parametrize("said", [REGION, CLIP, *(said for said, _ in GIVEN_UP)])
def test_perception_off_takes_triggers_for_text(said: str, tiny: Tiny) -> None:
    answer = answer_of(Script(f"So {said}"), tiny(), perception="off", max_looks=3)
    assert (answer.looks, answer.raw, answer.finish_reason) == ((), f"So {said}", "stop")


def test_no_look_is_allowed(tiny: Tiny) -> None:
    answer = answer_of(Script(f"So {REGION}"), tiny(), max_looks=0)
    assert (answer.looks, len(answer.turns), answer.text) == ((), 1, "So")


def test_one_look_is_allowed_unless_told(tiny: Tiny) -> None:
    answer = answer_of(Script(REGION, f"More {OTHER}"), tiny())
    assert [look.action for look in answer.looks] == [REGION_ACTION]
    assert answer.finish_reason == "look_limit"
    assert (answer.text, answer.raw) == ("More", f"More {OTHER}")


def test_two_looks_are_allowed(tiny: Tiny) -> None:
    script = Script(REGION, CLIP, "Red.")
    answer = answer_of(script, tiny(), max_looks=2)
    assert [look.action for look in answer.looks] == [REGION_ACTION, Reencode("clip")]
    assert (answer.text, answer.finish_reason, len(answer.turns)) == ("Red.", "stop", 3)
    expected = conversation(
        tiny(),
        FIRST,
        REGION,
        "<image>",
        CLIP,
        "<clip_image>",
        tokens=[PICTURE_TOKENS, answer.looks[0].tokens, PICTURE_TOKENS],
    )
    assert list(answer.turns[2].prompt_ids) == expected
    assert answer.usage.computed_tokens == len(expected) + len(answer.turns[2].generated_ids) - 1


def test_each_reencode_has_its_own_condition(tiny: Tiny) -> None:
    script = Script(CLIP, CLIP, "Red.")
    answer = answer_of(script, tiny(), max_looks=2)
    first, second = script.sessions["reencoder_projector"].calls
    assert (first["condition"] != second["condition"]).all()
    assert [look.action for look in answer.looks] == [Reencode("clip")] * 2


@pytest.mark.parametrize(
    ("prefix", "said"),
    [(REGION, ""), ("<|region_token_start|>", REGION[22:]), (REGION[:-20], REGION[-20:])],
)
def test_a_prefix_can_make_the_model_look(prefix: str, said: str, tiny: Tiny) -> None:
    answer = answer_of(Script(said, "A sign."), tiny(), assistant_prefix=prefix)
    assert ([look.action for look in answer.looks], answer.text) == ([REGION_ACTION], "A sign.")
    assert answer.turns[0].text == REGION
    expected = conversation(
        tiny(), FIRST, REGION, "<image>", tokens=[PICTURE_TOKENS, answer.looks[0].tokens]
    )
    assert list(answer.turns[1].prompt_ids) == expected
    assert answer.usage.computed_tokens == len(expected) + len(answer.turns[1].generated_ids) - 1
