"""Many questions about one picture: the answers of single requests, at the cost of the questions
alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from golden import GOLDEN, TAGS, Exporter, needs_golden
from PIL import Image
from scripted import CLIP, PICTURE_TOKENS, REGION, chat_of, conversation, join

from vpt_edge.runtime import Answer, Finished, Pipeline, Text, VptError
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle

PICTURE = Image.new("RGB", (96, 64))


@pytest.fixture(scope="module")
def questions(data: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """A scene's picture, another one, and the first one's questions, one that looks again last."""
    samples = [json.loads(line) for line in data.read_text().splitlines()]
    first, other = sorted({data.parent / sample["image"] for sample in samples})[:2]
    own = [sample for sample in samples if sample["image"] == first.name]
    return first, other, sorted(own, key=lambda sample: sample["perception"] == "region")


def check_same(answer: Answer, alone: Answer) -> None:
    assert answer.turns == alone.turns
    assert (answer.text, answer.looks, answer.finish_reason) == (
        alone.text,
        alone.looks,
        alone.finish_reason,
    )
    for turn, expected in zip(answer.turns, alone.turns, strict=True):
        assert turn.logits is not None and expected.logits is not None
        np.testing.assert_allclose(turn.logits, expected.logits, atol=5e-4)


def all_tokens(answer: Answer) -> int:
    """What was computed and what was kept: nothing else is left out."""
    return answer.usage.computed_tokens + answer.usage.reused_tokens


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_answers_are_those_of_single_requests(
    target: str, questions: tuple[Path, Path, list[dict[str, Any]]], exported: Exporter
) -> None:
    picture, other, samples = questions
    bundle = exported(TAGS, "fp32", target)
    options: list[Any] = []
    for sample in samples:
        options.append({"perception": sample["perception"], "keep_logits": True})
    questions_asked = [sample["question"] for sample in samples]
    asked = list(zip(questions_asked, options, strict=True))
    alone = []
    for question, chosen in asked:
        with Pipeline(bundle) as pipeline:
            alone.append(pipeline.ask(picture, question, **chosen))
    assert any(answer.looks for answer in alone)
    rounds = list(zip([*asked, *reversed(asked)], [*alone, *reversed(alone)], strict=True))
    with Pipeline(bundle) as pipeline, pipeline.encode(picture) as encoded:
        for index, ((question, chosen), expected) in enumerate(rounds):
            answer = encoded.ask(question, **chosen)
            check_same(answer, expected)
            if index not in (0, 3):
                pads = expected.turns[0].prompt_ids.count(bundle.manifest.tokens.image_pad)
                assert answer.usage.reused_tokens > expected.usage.reused_tokens + pads
                assert all_tokens(answer) == all_tokens(expected)
                assert answer.usage.vision_runs == expected.usage.vision_runs - 1
            if index == 2:
                pipeline.ask(other, "Is there a star?", perception="off", max_new_tokens=2)


@needs_golden
@pytest.mark.parametrize("kind", ["det", "seg"])
def test_a_picture_is_reencoded_once(kind: str, exported: Exporter) -> None:
    bundle = exported(GOLDEN / "models" / kind)
    name = {"det": "detection"}.get(kind, kind)
    prefix = "".join(f"<|{name}_action{end}|>" for end in ("_start", "", "_end"))
    with Pipeline(bundle) as pipeline, pipeline.encode(PICTURE) as encoded:
        first = encoded.ask("What?", assistant_prefix=prefix, max_new_tokens=2)
        second = encoded.ask("What?", assistant_prefix=prefix, max_new_tokens=2)
        alone = pipeline.ask(PICTURE, "What?", assistant_prefix=prefix, max_new_tokens=2)
    assert first.turns == second.turns == alone.turns
    assert first.looks and first.usage.seconds["reencode"] > 0
    assert second.usage.seconds["reencode"] == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


def test_another_picture_of_the_same_size_is_not_taken_for_it(tiny: Bundle) -> None:
    script = Script("Yes.", "No.")
    with Pipeline(tiny, opener=script) as pipeline:
        pipeline.encode(PICTURE).ask("What?")
        answer = pipeline.encode(PICTURE).ask("What?")
    assert answer.usage.vision_runs == 1
    pad = tiny.manifest.tokens.image_pad
    assert answer.usage.reused_tokens == answer.turns[0].prompt_ids.index(pad)


def given_as(form: str, picture: Image.Image) -> Any:
    """``picture`` as an application may hold it."""
    if form == "array":
        return np.array(picture)
    if form == "PIL image of an array":
        return Image.fromarray(np.array(picture.convert("RGBA")))
    return picture.copy()


def blacken(given: Any) -> None:
    if isinstance(given, np.ndarray):
        given[...] = 0
    else:
        given.paste((0, 0, 0), (0, 0, *given.size))


@pytest.mark.parametrize("form", ["array", "PIL image of an array", "PIL image"])
def test_what_is_drawn_later_is_not_in_the_crops(form: str, tiny: Bundle) -> None:
    """Neither into what was given, nor into what an answer shows."""
    given = given_as(form, Image.new("RGB", (96, 64), (200, 100, 50)))
    script = Script(REGION, "Yes.", REGION, "No.", REGION, "Maybe.")
    with Pipeline(tiny, opener=script) as pipeline, pipeline.encode(given) as encoded:
        first = encoded.ask("What?")
        blacken(given)
        second = encoded.ask("Why?")
        blacken(second.image)
        third = encoded.ask("Who?")
    for answer in (first, second, third):
        (look,) = answer.looks
        assert look.crop is not None
        assert look.crop.convert("RGB").getpixel((0, 0)) == (200, 100, 50)


def test_what_is_drawn_during_a_stream_is_not_in_its_crop(tiny: Bundle) -> None:
    given = Image.new("RGB", (96, 64), (200, 100, 50))
    with Pipeline(tiny, opener=Script(REGION, "Yes.")) as pipeline:
        events = pipeline.stream(given, "What?")
        blacken(given)
        *_, last = events
    assert isinstance(last, Finished)
    (look,) = last.answer.looks
    assert look.crop is not None
    assert look.crop.getpixel((0, 0)) == (200, 100, 50)


def test_a_forgotten_picture_is_computed_again(tiny: Bundle) -> None:
    script = Script("Yes.", "No.")
    with Pipeline(tiny, opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        encoded.ask("What?")
        pipeline.forget()
        assert encoded.ask("What?").usage.reused_tokens == 0


def test_it_streams(tiny: Bundle) -> None:
    with Pipeline(tiny, opener=Script("Yes.")) as pipeline, pipeline.encode(PICTURE) as encoded:
        events = list(encoded.stream("What?"))
    assert isinstance(events[-1], Finished)
    assert join(events) == events[-1].answer.text == "Yes."


def test_a_closed_or_foreign_one_is_refused(tiny: Bundle) -> None:
    with (
        Pipeline(tiny, opener=Script("Yes.")) as pipeline,
        Pipeline(tiny, opener=Script("Yes.")) as other,
    ):
        with (
            pipeline.encode(PICTURE) as encoded,
            pytest.raises(VptError, match="encoded picture belongs to another pipeline"),
        ):
            other.ask(encoded, "What?")
        with pytest.raises(VptError, match=r"encoded picture is closed; .*encode\(image\)"):
            encoded.ask("What?")


def test_another_question_computes_its_own_tokens(tiny: Bundle) -> None:
    """The picture's are kept, and the text in front of it; those of an earlier look are not."""
    script = Script(REGION, "Yes.", CLIP, "No.", REGION, "Maybe.")
    with Pipeline(tiny, opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        answers = [encoded.ask(question) for question in ("What?", "Why?", "Whom?")]
    assert [answer.usage.vision_runs for answer in answers] == [2, 0, 1]
    assert [answer.usage.reencoder_runs for answer in answers] == [0, 1, 0]
    end = chat_of(tiny).encode("<|im_end|>\n<|im_start|>assistant\n")
    common = len(conversation(tiny, "<image>\nWh", tokens=[PICTURE_TOKENS])) - len(end)
    for answer, kept in zip(answers, (0, common, common), strict=True):
        first, second = answer.turns
        first_turn = len(first.prompt_ids) + len(first.generated_ids) - 1
        assert answer.usage.reused_tokens == kept + first_turn
        whole = len(second.prompt_ids) + len(second.generated_ids) - 1
        assert answer.usage.computed_tokens == whole - kept


def test_the_words_of_another_picture_are_kept_as_far_as_its_place(tiny: Bundle) -> None:
    """Though the question is in front of it."""
    script = Script("Yes.", "No.")
    with Pipeline(tiny, opener=script) as pipeline:
        pipeline.ask(PICTURE, "What is in <image>?")
        answer = pipeline.ask(PICTURE, "What is in <image>?")
    pad = tiny.manifest.tokens.image_pad
    assert answer.usage.reused_tokens == answer.turns[0].prompt_ids.index(pad)


def test_another_picture_in_between_costs_no_encode(tiny: Bundle) -> None:
    script = Script("Yes.", "No.", "Maybe.")
    with Pipeline(tiny, opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        encoded.ask("What?")
        pipeline.ask(PICTURE, "What?")
        answer = encoded.ask("What?")
    pad = tiny.manifest.tokens.image_pad
    assert answer.usage.reused_tokens == answer.turns[0].prompt_ids.index(pad)
    assert answer.usage.vision_runs == 0


def test_one_that_is_closed_in_a_stream_is_not_encoded_again(tiny: Bundle) -> None:
    """A re-encode by CLIP takes the features that were shown."""
    script = Script(f"Hm. {CLIP}", "Red.")
    with Pipeline(tiny, opener=script) as pipeline:
        encoded = pipeline.encode(PICTURE)
        events = encoded.stream("What?")
        assert next(events) == Text("H")
        encoded.close()
        *_, last = events
    assert isinstance(last, Finished)
    assert (last.answer.text, last.answer.usage.vision_runs) == ("Red.", 1)
    shown = script.sessions["vision_encoder"].outputs[0]["features"]
    projected = script.sessions["reencoder_projector"].calls[0]["features"]
    np.testing.assert_array_equal(projected, shown)


def test_requests_do_not_remember_each_other(tiny: Bundle) -> None:
    with Pipeline(tiny, opener=Script(REGION, "Yes.", "No.")) as pipeline:
        pipeline.ask(PICTURE, "What?")
        answer = pipeline.ask(PICTURE, "What?")
    assert (answer.text, answer.looks, len(answer.turns)) == ("No.", (), 1)
    pad = pipeline.bundle.manifest.tokens.image_pad
    # The template's text is the same for every picture.
    before = answer.turns[0].prompt_ids.index(pad)
    assert (answer.usage.reused_tokens, answer.usage.vision_runs) == (before, 1)
    assert answer.usage.computed_tokens == len(answer.turns[0].prompt_ids) - before + 3


@pytest.mark.parametrize("images", [[], [PICTURE, PICTURE], (PICTURE, PICTURE, PICTURE)])
def test_this_model_is_shown_one_picture(images: Any, tiny: Bundle) -> None:
    with Pipeline(tiny, opener=Script("Yes.", "No.")) as pipeline:
        for ask in (pipeline.encode, lambda several: pipeline.ask(several, "What?")):
            with pytest.raises(PromptError, match=f"found {len(images)} pictures, .* takes one;"):
                ask(images)
        assert pipeline.ask([PICTURE], "What?").text == "Yes."
        with pipeline.encode([PICTURE]) as encoded, pytest.raises(PromptError, match="found 2"):
            pipeline.ask([encoded, PICTURE], "Which?")
