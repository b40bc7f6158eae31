"""The loop over scripted sessions: what is looked at, what is said, what it costs."""

from __future__ import annotations

import json
import linecache
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from vpt_edge.runtime import (
    Answer,
    Bundle,
    Crop,
    Finished,
    Looked,
    Pipeline,
    Reencode,
    Text,
    VptError,
)
from vpt_edge.runtime.chat import Chat, Message
from vpt_edge.runtime.errors import BundleError, ImageError, PromptError, SessionError
from vpt_edge.runtime.perception.vpt import question_text
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.result import Event
    from vpt_edge.runtime.sessions import Session

PICTURE = Image.fromarray(
    np.arange(64 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 96, 3)
)
VIEW_TOKENS = 6  # of 84x56 pixels
REGION = "<|region_token_start|><|x_1|><|y_2|><|x_3|><|region_token_end|>"
OTHER = "<|region_token_start|><|x_7|><|y_7|><|region_token_end|>"
REGION_ACTION = Crop((1, 2, 3, 2), (0, 8, 60, 32))
OTHER_ACTION = Crop((7, 7, 7, 7), (72, 48, 96, 64))


def trigger(kind: str) -> str:
    return f"<|{kind}_action_start|><|{kind}_action|><|{kind}_action_end|>"


CLIP = trigger("clip")

Tiny = Callable[..., Bundle]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    made = dict[tuple[str, int], Bundle]()

    def make(kind: str = "clip", capacity: int = 2048) -> Bundle:
        if (kind, capacity) not in made:
            made[kind, capacity] = tiny_bundle(tmp_path_factory.mktemp(kind), kind, capacity)
        return made[kind, capacity]

    return make


def events_of(script: Script, bundle: Bundle, **options: Any) -> list[Event]:
    with Pipeline(bundle, opener=script) as pipeline:
        return list(pipeline.stream(PICTURE, "What?", **options))


def answer_of(script: Script, bundle: Bundle, **options: Any) -> Answer:
    with Pipeline(bundle, opener=script) as pipeline:
        return pipeline.ask(PICTURE, "What?", **options)


def joined(events: list[Event]) -> str:
    """The text behind the last look."""
    looks = [index for index, event in enumerate(events) if isinstance(event, Looked)]
    behind = events[looks[-1] + 1 if looks else 0 :]
    return "".join(event.piece for event in behind if isinstance(event, Text))


def conversation(bundle: Bundle, *texts: str, **visuals: list[int]) -> list[int]:
    """The ids of a conversation that the user begins and ends."""
    prompt = Chat(bundle.file("tokenizer.json"))
    roles: Any = ["user", "assistant"] * len(texts)
    messages = [Message(role, text) for role, text in zip(roles, texts, strict=False)]
    return prompt.conversation(messages, visuals)


FIRST = question_text("What?", "free", "clip")


def test_a_turn_without_triggers_is_the_answer(tiny: Tiny) -> None:
    script = Script("A dog.")
    events = events_of(script, tiny())
    answer = events[-1].answer if isinstance(events[-1], Finished) else None
    assert answer is not None
    assert [type(event) for event in events] == [Text] * 6 + [Finished]
    assert (answer.text, answer.raw, str(answer), joined(events)) == ("A dog.",) * 4
    assert (answer.finish_reason, answer.looks, len(answer.turns)) == ("stop", (), 1)
    assert (answer.question, answer.image) == ("What?", PICTURE)
    (turn,) = answer.turns
    assert list(turn.prompt_ids) == conversation(tiny(), FIRST, image=[VIEW_TOKENS])
    assert list(turn.generated_ids) == [
        *Chat(tiny().file("tokenizer.json")).encode("A dog."),
        tiny().manifest.tokens.end[0],
    ]
    assert len(script.sessions["vision_encoder"].calls) == 1
    assert not script.sessions["reencoder_projector"].calls


def test_one_region_is_cropped_and_seen(tiny: Tiny) -> None:
    script = Script(f"Hm. {REGION}", "A sign.")
    events = events_of(script, tiny())
    assert [type(event) for event in events] == [Text] * 4 + [Looked] + [Text] * 7 + [Finished]
    looked, finished = events[4], events[-1]
    assert isinstance(looked, Looked) and isinstance(finished, Finished)
    assert looked.action == REGION_ACTION
    assert (looked.kind, looked.cells, looked.box) == (
        "region",
        REGION_ACTION.cells,
        REGION_ACTION.box,
    )
    assert looked.crop is not None
    assert looked.crop.tobytes() == PICTURE.crop(REGION_ACTION.box).tobytes()
    answer = finished.answer
    assert answer.looks == (looked,)
    assert (answer.text, answer.finish_reason, joined(events)) == ("A sign.", "stop", "A sign.")
    assert [turn.text for turn in answer.turns] == [f"Hm. {REGION}", "A sign."]
    expected = conversation(
        tiny(), FIRST, f"Hm. {REGION}", "<image>", image=[VIEW_TOKENS, looked.tokens]
    )
    assert list(answer.turns[1].prompt_ids) == expected


def test_two_regions_are_numbered_and_seen_in_order(tiny: Tiny) -> None:
    script = Script(REGION + OTHER, "Yes.")
    answer = answer_of(script, tiny())
    assert [look.action for look in answer.looks] == [REGION_ACTION, OTHER_ACTION]
    tokens = [look.tokens for look in answer.looks]
    user = "Region 0: <image>\nRegion 1: <image>\n"
    expected = conversation(tiny(), FIRST, REGION + OTHER, user, image=[VIEW_TOKENS, *tokens])
    assert list(answer.turns[1].prompt_ids) == expected
    assert [call["patches"].shape[1] // 4 for call in script.sessions["vision_encoder"].calls] == [
        VIEW_TOKENS,
        *tokens,
    ]
    assert answer.usage.vision_runs == 3


def test_crops_are_spliced_behind_the_picture(tiny: Tiny) -> None:
    """The scripted encoder gives the number of its run as features."""
    script = Script(REGION, "Yes.")
    answer = answer_of(script, tiny())
    pad, prompt = tiny().manifest.tokens.image_pad, answer.turns[1].prompt_ids
    places = [index for index, token in enumerate(prompt) if token == pad]
    rows = np.concatenate([call["embeds"][0, :, 0] for call in script.sessions["decoder"].calls])
    assert rows[places].tolist() == [1] * VIEW_TOKENS + [2] * answer.looks[0].tokens


def test_clip_looks_again_at_the_same_features(tiny: Tiny) -> None:
    script = Script(CLIP, "Red.")
    answer = answer_of(script, tiny())
    (look,) = answer.looks
    assert (look.action, look.tokens, look.kind) == (Reencode("clip"), VIEW_TOKENS, "clip")
    assert (look.cells, look.box, look.crop) == (None, None, None)
    assert (answer.text, answer.usage.vision_runs, answer.usage.reencoder_runs) == ("Red.", 1, 1)
    assert len(script.sessions["vision_encoder"].calls) == 1
    (projected,) = script.sessions["reencoder_projector"].calls
    np.testing.assert_array_equal(
        projected["features"], script.sessions["vision_encoder"].outputs[0]["features"]
    )
    expected = conversation(
        tiny(), FIRST, CLIP, "<clip_image>", image=[VIEW_TOKENS], clip_image=[VIEW_TOKENS]
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
    visuals = {"image": [VIEW_TOKENS], f"{kind}_image": [256]}
    assert list(answer.turns[1].prompt_ids) == conversation(
        tiny(kind), FIRST, trigger(kind), f"<{kind}_image>", **visuals
    )


def test_the_condition_is_the_state_in_front_of_the_action(tiny: Tiny) -> None:
    script = Script(CLIP, "Red.")
    answer_of(script, tiny())
    decoder, (projected,) = script.sessions["decoder"], script.sessions["reencoder_projector"].calls
    action = [index for index, call in enumerate(decoder.calls) if call["embeds"].shape[1] == 1][1]
    before = decoder.outputs[action - 1]["hidden"]
    np.testing.assert_array_equal(decoder.calls[action]["embeds"][0], before)
    np.testing.assert_array_equal(projected["condition"], before)


def test_a_kept_turn_is_not_computed_again(tiny: Tiny) -> None:
    script = Script(CLIP, "Red.")
    answer = answer_of(script, tiny())
    first, second = answer.turns
    computed = sum(call["embeds"].shape[1] for call in script.sessions["decoder"].calls)
    usage = answer.usage
    assert (
        usage.computed_tokens == computed == len(second.prompt_ids) + len(second.generated_ids) - 1
    )
    assert (
        usage.reused_tokens == len(first.prompt_ids) + len(first.generated_ids) - 1
    )  # but the end token
    assert usage.prompt_tokens == len(second.prompt_ids)
    assert usage.generated_tokens == len(first.generated_ids) + len(second.generated_ids)
    assert set(usage.seconds) == {"preprocess", "vision", "reencode", "prefill", "decode", "total"}
    assert usage.seconds["total"] == pytest.approx(sum(usage.seconds.values()) / 2)


def test_a_preamble_before_a_reencode_is_forgotten(tiny: Tiny) -> None:
    answer = answer_of(Script(f"Hm. {CLIP}", "Red."), tiny())
    first, second = answer.turns
    expected = conversation(
        tiny(), FIRST, CLIP, "<clip_image>", image=[VIEW_TOKENS], clip_image=[VIEW_TOKENS]
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


def test_behind_an_action_start_the_action_is_forced(tiny: Tiny) -> None:
    answer = answer_of(
        Script("<|clip_action_start|>x<|clip_action_end|>", "Red."), tiny(), keep_logits=True
    )
    tokens, (first, _) = tiny().manifest.tokens, answer.turns
    assert first.generated_ids[:2] == (tokens.action_start, tokens.action)
    assert first.text == CLIP
    assert first.logits is not None
    assert first.logits[1].argmax() == ord("x") - ord("!")  # what the model wanted to say


def test_behind_an_action_start_an_end_token_ends(tiny: Tiny) -> None:
    answer = answer_of(Script("Hm <|clip_action_start|>", "Red."), tiny())
    tokens = tiny().manifest.tokens
    assert answer.turns[0].generated_ids[-2:] == (tokens.action_start, tokens.end[0])
    assert answer.turns[0].text == "Hm <|clip_action_start|>"
    assert (answer.looks[0].action, answer.text) == (Reencode("clip"), "Red.")


def test_the_last_allowed_token_is_not_forced(tiny: Tiny) -> None:
    answer = answer_of(Script("<|clip_action_start|>xyz", "Red."), tiny(), max_new_tokens=2)
    assert [turn.text for turn in answer.turns] == ["<|clip_action_start|>x", "Re"]
    assert (answer.finish_reason, answer.text) == ("length", "Re")


def test_any_end_token_ends(tiny: Tiny) -> None:
    answer = answer_of(Script("A<|vision_end|>"), tiny())
    assert (answer.text, answer.finish_reason, len(answer.turns[0].generated_ids)) == (
        "A",
        "stop",
        2,
    )


def test_the_padding_token_is_no_end(tiny: Tiny) -> None:
    assert answer_of(Script("A<|endoftext|>B"), tiny()).text == "AB"


@pytest.mark.parametrize(
    ("perception", "suffix"),
    [
        ("free", ""),
        ("off", ""),
        (
            "region",
            " \nIdentify the region that can help you answer the question, and then answer the question.",
        ),
        ("reencode", " \nRequire additional perception features, and then answer the question."),
    ],
)
def test_perception_appends_the_authors_sentence(perception: str, suffix: str, tiny: Tiny) -> None:
    answer = answer_of(Script("Yes."), tiny(), perception=perception)
    assert list(answer.turns[0].prompt_ids) == conversation(
        tiny(), f"<image>\nWhat?{suffix}", image=[VIEW_TOKENS]
    )
    assert answer.question == "What?"


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
    assert ([look.action for look in answer.looks], answer.finish_reason) == (
        [REGION_ACTION],
        "look_limit",
    )
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
        image=[VIEW_TOKENS, answer.looks[0].tokens],
        clip_image=[VIEW_TOKENS],
    )
    assert list(answer.turns[2].prompt_ids) == expected
    assert answer.usage.computed_tokens == len(expected) + len(answer.turns[2].generated_ids) - 1


def test_each_reencode_has_its_own_condition(tiny: Tiny) -> None:
    script = Script(CLIP, CLIP, "Red.")
    answer = answer_of(script, tiny(), max_looks=2)
    first, second = (call["condition"] for call in script.sessions["reencoder_projector"].calls)
    assert (first != second).all()
    assert [look.action for look in answer.looks] == [Reencode("clip")] * 2


def test_a_prefix_begins_the_first_turn(tiny: Tiny) -> None:
    events = events_of(Script("dog."), tiny(), assistant_prefix="A ")
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, joined(events)) == ("A dog.", "A dog.")
    prefix = Chat(tiny().file("tokenizer.json")).encode("A ")
    assert list(answer.turns[0].prompt_ids) == [
        *conversation(tiny(), FIRST, image=[VIEW_TOKENS]),
        *prefix,
    ]


@pytest.mark.parametrize(
    ("prefix", "said"),
    [(REGION, ""), ("<|region_token_start|>", REGION[22:]), (REGION[:-20], REGION[-20:])],
)
def test_a_prefix_can_make_the_model_look(prefix: str, said: str, tiny: Tiny) -> None:
    answer = answer_of(Script(said, "A sign."), tiny(), assistant_prefix=prefix)
    assert ([look.action for look in answer.looks], answer.text) == ([REGION_ACTION], "A sign.")
    assert answer.turns[0].text == REGION
    expected = conversation(
        tiny(), FIRST, REGION, "<image>", image=[VIEW_TOKENS, answer.looks[0].tokens]
    )
    assert list(answer.turns[1].prompt_ids) == expected
    assert answer.usage.computed_tokens == len(expected) + len(answer.turns[1].generated_ids) - 1


@pytest.mark.parametrize("prefix", ["a\ud800", None, b"A"])
def test_a_prefix_is_text(prefix: Any, tiny: Tiny) -> None:
    with pytest.raises(PromptError):
        answer_of(Script("dog."), tiny(), assistant_prefix=prefix)


def test_generation_stops_at_max_new_tokens(tiny: Tiny) -> None:
    events = events_of(Script("A long answer"), tiny(), max_new_tokens=3)
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, joined(events), answer.finish_reason) == ("A l", "A l", "length")
    assert len(answer.turns[0].generated_ids) == 3
    assert answer_of(Script("ABC"), tiny(), max_new_tokens=4).finish_reason == "stop"


def test_max_new_tokens_counts_each_turn(tiny: Tiny) -> None:
    answer = answer_of(Script(REGION, "Yes"), tiny(), max_new_tokens=6)
    assert [len(turn.generated_ids) for turn in answer.turns] == [6, 4]
    answer = answer_of(Script(REGION), tiny(), max_new_tokens=4)
    assert (answer.looks, answer.finish_reason) == ((), "length")


def test_a_full_cache_ends_the_turn(tiny: Tiny) -> None:
    prompt = len(conversation(tiny(), FIRST, image=[VIEW_TOKENS]))
    answer = answer_of(Script("A long answer"), tiny(capacity=prompt + 3))
    assert (answer.text, answer.finish_reason) == (
        "A lo",
        "length",
    )  # the last token needs no place
    answer = answer_of(Script("A long answer"), tiny(capacity=prompt))
    assert (answer.text, answer.finish_reason) == ("A", "length")


def test_too_long_a_question_is_refused_and_the_pipeline_goes_on(tiny: Tiny) -> None:
    prompt = len(conversation(tiny(), FIRST, image=[VIEW_TOKENS]))
    with Pipeline(tiny(capacity=prompt + 3), opener=Script("Yes")) as pipeline:
        with pytest.raises(PromptError, match="shorten the question"):
            pipeline.ask(PICTURE, "What on earth is it?")
        assert pipeline.ask(PICTURE, "What?").text == "Yes"


def test_text_of_several_bytes_comes_whole(tiny: Tiny) -> None:
    events = events_of(Script("é🐕"), tiny())
    assert [event.piece for event in events if isinstance(event, Text)] == ["é", "🐕"]


def test_logits_are_kept_on_demand(tiny: Tiny) -> None:
    answer = answer_of(Script(CLIP, "Yes"), tiny(), keep_logits=True)
    for turn in answer.turns:
        assert turn.logits is not None
        assert turn.logits.shape == (len(turn.generated_ids), tiny().manifest.text.vocab_size)
        assert turn.logits.argmax(axis=1).tolist() == list(turn.generated_ids)
    assert all(turn.logits is None for turn in answer_of(Script("Yes"), tiny()).turns)


def test_an_answer_is_json(tiny: Tiny) -> None:
    answer = answer_of(Script(REGION, "Yes."), tiny())
    data = answer.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert {key: type(value) for key, value in data.items()} == {
        "text": str,
        "raw": str,
        "finish_reason": str,
        "turns": list,
        "looks": list,
        "usage": dict,
        "seconds": dict,
        "waits": list,
    }
    tokens = answer.looks[0].tokens
    assert data["looks"] == [
        {"kind": "region", "cells": [1, 2, 3, 2], "box": [0, 8, 60, 32], "tokens": tokens}
    ]
    assert set(data["turns"][0]) == {"prompt_ids", "generated_ids", "text"}
    assert set(data["usage"]) == {
        "prompt_tokens",
        "generated_tokens",
        "computed_tokens",
        "reused_tokens",
        "vision_runs",
        "reencoder_runs",
    }
    looks = answer_of(Script(CLIP, "Yes."), tiny()).to_dict()["looks"]
    assert looks == [{"kind": "clip", "cells": None, "box": None, "tokens": VIEW_TOKENS}]


def test_an_answer_is_saved_into_a_new_folder(tiny: Tiny, tmp_path: Path) -> None:
    answer = answer_of(Script(REGION + OTHER, "Yes."), tiny())
    folder = tmp_path / "deep" / "answer"
    answer.save(folder)
    assert {path.name for path in folder.iterdir()} == {
        "answer.json",
        "overlay.png",
        "crop_0.png",
        "crop_1.png",
    }
    assert json.loads((folder / "answer.json").read_text("utf-8")) == answer.to_dict()
    for index, look in enumerate(answer.looks):
        assert look.crop is not None
        assert Image.open(folder / f"crop_{index}.png").tobytes() == look.crop.tobytes()
    with pytest.raises(VptError, match="exists already"):
        answer.save(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["answer"]


def test_a_failed_save_leaves_nothing(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = answer_of(Script("Yes."), tiny())

    def fail(self: Answer) -> Image.Image:
        raise OSError("the disk is full")

    monkeypatch.setattr(Answer, "plot", fail)
    with pytest.raises(OSError, match="full"):
        answer.save(tmp_path / "answer")
    assert not list(tmp_path.iterdir())


def test_a_crop_without_pixels_is_seen_and_saved(tiny: Tiny, tmp_path: Path) -> None:
    """Of a picture below 8 pixels a region may be empty; the authors' code stretches it to 28x28."""
    with Pipeline(
        tiny(), opener=Script(REGION.replace("3", "0").replace("1", "0").replace("2", "0"), "Yes.")
    ) as pipeline:
        answer = pipeline.ask(Image.new("RGB", (3, 2)), "What?")
    assert (answer.text, answer.looks[0].box) == ("Yes.", (0, 0, 0, 0))
    answer.save(tmp_path / "answer")


def test_what_cannot_be_asked_is_said_at_the_call(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script("Yes.")) as pipeline:
        for options in (
            {"max_new_tokens": 0},
            {"max_looks": -1},
            {"perception": "both"},
            {"top_k": 3},
            {"temperature": -1.0},
        ):
            with pytest.raises(PromptError):
                pipeline.stream(PICTURE, "What?", **options)
        with pytest.raises(PromptError):
            pipeline.stream(PICTURE, "<image><image>")
        with pytest.raises(ImageError):
            pipeline.stream("missing.png", "What?")
        with pytest.raises(TypeError):
            pipeline.ask(PICTURE, "What?", max_tokens=3)
        assert pipeline.ask(PICTURE, "What?").text == "Yes."


def test_a_closed_pipeline_says_so(tiny: Tiny) -> None:
    script = Script("Yes.")
    pipeline = Pipeline(tiny(), opener=script)
    pipeline.close()
    pipeline.close()
    assert all(session.closed for session in script.sessions.values())
    with pytest.raises(VptError, match="closed"):
        pipeline.ask(PICTURE, "What?")


def test_a_stream_of_a_pipeline_closed_since_says_so(tiny: Tiny) -> None:
    pipeline = Pipeline(tiny(), opener=Script("Yes."))
    events = pipeline.stream(PICTURE, "What?")
    pipeline.close()
    with pytest.raises(VptError, match="closed"):
        next(events)


def test_a_pipeline_opens_a_folder_and_every_graph(tiny: Tiny) -> None:
    script = Script("Yes.")
    with Pipeline(tiny("seg").path, opener=script) as pipeline:
        assert pipeline.bundle == tiny("seg")
        assert set(script.sessions) == {
            "vision_encoder",
            "decoder",
            "reencoder_features",
            "reencoder_projector",
        }


def test_an_unknown_device_is_refused(tiny: Tiny) -> None:
    with pytest.raises(SessionError, match=r"'gpu' is unknown, expected one of: .*cpu"):
        Pipeline(tiny(), "gpu")


def test_a_graph_that_does_not_open_is_named(tiny: Tiny) -> None:
    """On a CPU all sessions open at once; the tiny bundle's graphs are empty files."""
    with pytest.raises(SessionError, match=r"cannot open .*vision_encoder\.onnx"):
        Pipeline(tiny())


@pytest.mark.parametrize("file", ["embeddings.bin", "tokenizer.json", "decoder.onnx"])
def test_an_altered_file_is_the_error_whatever_else_fails(file: str, tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path).path
    (path / file).write_bytes(b"other")
    with pytest.raises(BundleError, match=f"{file} is altered"):
        Pipeline(path)


def test_sessions_of_a_cpu_open_at_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    script, all_there = Script("Yes."), threading.Barrier(3, timeout=10)

    def opener(bundle: Bundle, name: str, device: str) -> Session:
        all_there.wait()
        return script(bundle, name)

    monkeypatch.setattr("vpt_edge.runtime.pipeline.open_session", opener)
    Pipeline(tiny()).close()
    assert set(script.sessions) == set(tiny().manifest.graphs)


def test_sessions_of_a_gpu_open_one_after_another(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, threads = Script("Yes."), []

    def opener(bundle: Bundle, name: str, device: str) -> Session:
        threads.append(threading.get_ident())
        return script(bundle, name)

    monkeypatch.setattr("vpt_edge.runtime.pipeline.open_session", opener)
    Pipeline(tiny(), "tensorrt").close()
    assert threads == [threading.get_ident()] * 3


def test_what_was_opened_is_closed_when_a_session_fails(tiny: Tiny) -> None:
    script = Script("Yes.")

    def opener(bundle: Bundle, name: str, /) -> Session:
        if name == "reencoder_projector":
            raise SessionError("no room")
        return script(bundle, name)

    with pytest.raises(SessionError, match="no room"):
        Pipeline(tiny(), opener=opener)
    assert len(script.sessions) == 2
    assert all(session.closed for session in script.sessions.values())


def test_what_was_opened_is_closed_when_the_cache_fails(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("vpt_edge.runtime.decoder.KVCache", fail)
    script = Script("Yes.")
    with pytest.raises(MemoryError):
        Pipeline(tiny(), opener=script)
    assert all(session.closed for session in script.sessions.values())


def test_two_threads_are_answered_one_after_the_other(tiny: Tiny) -> None:
    turns = ["a" * 50, "b" * 50, "c" * 50, "d" * 50]
    script, texts = Script(*turns), list[str]()
    with Pipeline(tiny(), opener=script) as pipeline:
        barrier = threading.Barrier(2)

        def ask() -> None:
            barrier.wait()
            texts.extend(pipeline.ask(PICTURE, "What?").text for _ in range(2))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(texts) == turns


def test_a_thread_that_would_wait_for_itself_gets_an_error(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script("Yes.", "No.")) as pipeline:
        events = pipeline.stream(PICTURE, "What?")
        next(events)
        with pytest.raises(VptError, match="unfinished"):
            pipeline.ask(PICTURE, "And now?")
        *_, last = events
        assert isinstance(last, Finished)
        assert last.answer.text == "Yes."
        assert pipeline.ask(PICTURE, "And now?").text == "No."


@pytest.mark.parametrize("closed", [True, False])
def test_an_abandoned_stream_frees_the_pipeline(closed: bool, tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script("Yes.", "No.")) as pipeline:
        events: Any = pipeline.stream(PICTURE, "What?")
        next(events)
        if closed:
            events.close()
        del events
        assert pipeline.ask(PICTURE, "And now?").text == "No."


def test_an_unread_stream_holds_nothing(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script("Yes.")) as pipeline:
        events: Iterator[Event] = pipeline.stream(PICTURE, "What?")
        assert pipeline.ask(PICTURE, "And now?").text == "Yes."
        del events


def test_a_failed_run_frees_the_pipeline(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script("Yes.")
    with Pipeline(tiny(), opener=script) as pipeline:

        def fail(inputs: Any, outputs: Any) -> None:
            raise SessionError("out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(script.sessions["decoder"], "run", fail)
            with pytest.raises(SessionError):
                pipeline.ask(PICTURE, "What?")
        assert pipeline.ask(PICTURE, "What?").text == "Yes."


def test_requests_do_not_remember_each_other(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script(REGION, "Yes.", "No.")) as pipeline:
        pipeline.ask(PICTURE, "What?")
        answer = pipeline.ask(PICTURE, "What?")
    assert (answer.text, answer.looks, len(answer.turns)) == ("No.", (), 1)
    pad = pipeline.bundle.manifest.tokens.image_pad
    before = answer.turns[0].prompt_ids.index(
        pad
    )  # the template's text, which is the same for every picture
    assert (answer.usage.reused_tokens, answer.usage.vision_runs) == (before, 1)
    assert answer.usage.computed_tokens == len(answer.turns[0].prompt_ids) - before + 3


def test_a_checkpoint_that_waits_for_the_sentence_is_hinted_at_once(tiny: Tiny) -> None:
    bundle = replace(
        tiny(), manifest=replace(tiny().manifest, prompt_triggered=True, source="Some-VPT")
    )
    with Pipeline(bundle, opener=Script("Yes.", "Yes.", "Yes.", "Yes.")) as pipeline:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipeline.ask(PICTURE, "What?", perception="region")
            pipeline.ask(PICTURE, "What?", perception="off")
        with pytest.warns(
            UserWarning, match='Some-VPT.*perception="region" or "reencode"'
        ) as caught:
            list(pipeline.stream(PICTURE, "What?"))
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipeline.ask(PICTURE, "What?")


@pytest.mark.parametrize("way", ["stream", "ask", "view.stream", "view.ask"])
def test_the_hint_points_at_the_callers_line(way: str, tiny: Tiny) -> None:
    bundle = replace(tiny(), manifest=replace(tiny().manifest, prompt_triggered=True))
    with Pipeline(bundle, opener=Script("Yes.")) as pipeline:
        view = pipeline.view(PICTURE)
        calls: dict[str, Callable[[], object]] = {
            "stream": lambda: pipeline.stream(PICTURE, "What?"),
            "ask": lambda: pipeline.ask(PICTURE, "What?"),
            "view.stream": lambda: view.stream("What?"),
            "view.ask": lambda: view.ask("What?"),
        }
        with pytest.warns(UserWarning, match="look again") as caught:
            calls[way]()
    line = linecache.getline(__file__, caught[0].lineno)
    assert (caught[0].filename, line.partition(":")[0].strip()) == (__file__, f'"{way}"')


def test_other_checkpoints_are_not_hinted_at(tiny: Tiny) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answer_of(Script("Yes."), tiny()).text == "Yes."
