"""Many questions about one picture: the answers of single requests, at the cost of the questions
alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from golden import DEMO, GOLDEN, Exporter, needs_golden
from PIL import Image

from vpt_edge.runtime import Answer, Finished, Pipeline, VptError
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


def own_tokens(answer: Answer, alone: Answer) -> bool:
    """Whether everything up to the end of the picture was reused, and nothing else was left out."""
    usage, whole = answer.usage, alone.usage
    return (
        usage.computed_tokens + usage.reused_tokens == whole.computed_tokens + whole.reused_tokens
    )


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_answers_are_those_of_single_requests(
    target: str, questions: tuple[Path, Path, list[dict[str, Any]]], exported: Exporter
) -> None:
    picture, other, samples = questions
    bundle = exported(DEMO, "fp32", target)
    options = [{"perception": sample["perception"], "keep_logits": True} for sample in samples]
    asked = list(zip([sample["question"] for sample in samples], options, strict=True))
    alone = []
    for question, chosen in asked:
        with Pipeline(bundle) as pipeline:
            alone.append(pipeline.ask(picture, question, **chosen))
    assert any(answer.looks for answer in alone)
    with Pipeline(bundle) as pipeline, pipeline.view(picture) as view:
        for index, (question, chosen) in enumerate([*asked, *reversed(asked)]):
            answer, expected = view.ask(question, **chosen), [*alone, *reversed(alone)][index]
            check_same(answer, expected)
            if index not in (0, 3):
                pads = expected.turns[0].prompt_ids.count(bundle.manifest.tokens.image_pad)
                assert answer.usage.reused_tokens > expected.usage.reused_tokens + pads
                assert own_tokens(answer, expected)
                assert answer.usage.vision_runs == expected.usage.vision_runs - 1
            if index == 2:
                pipeline.ask(other, "Is there a star?", perception="off", max_new_tokens=2)


@needs_golden
@pytest.mark.parametrize("kind", ["det", "seg"])
def test_a_picture_is_reencoded_once(kind: str, exported: Exporter) -> None:
    bundle = exported(GOLDEN / "models" / kind)
    name = {"det": "detection"}.get(kind, kind)
    prefix = "".join(f"<|{name}_action{end}|>" for end in ("_start", "", "_end"))
    with Pipeline(bundle) as pipeline, pipeline.view(PICTURE) as view:
        first, second = (
            view.ask("What?", assistant_prefix=prefix, max_new_tokens=2) for _ in range(2)
        )
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
        pipeline.view(PICTURE).ask("What?")
        answer = pipeline.view(PICTURE).ask("What?")
    assert answer.usage.vision_runs == 1
    assert answer.usage.reused_tokens == answer.turns[0].prompt_ids.index(
        tiny.manifest.tokens.image_pad
    )


REGION = "<|region_token_start|><|x_1|><|y_2|><|x_3|><|region_token_end|>"


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
    with Pipeline(tiny, opener=script) as pipeline, pipeline.view(given) as view:
        first = view.ask("What?")
        blacken(given)
        second = view.ask("Why?")
        blacken(second.image)
        third = view.ask("Who?")
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
    with (
        Pipeline(tiny, opener=Script("Yes.", "No.", "Yes.")) as pipeline,
        pipeline.view(PICTURE) as view,
    ):
        view.ask("What?")
        pipeline.forget()
        assert view.ask("What?").usage.reused_tokens == 0
        events = view.stream("Why?")
        next(events)
        with pytest.raises(VptError, match="earlier stream is unfinished"):
            pipeline.forget()


def test_a_view_streams(tiny: Bundle) -> None:
    with Pipeline(tiny, opener=Script("Yes.")) as pipeline, pipeline.view(PICTURE) as view:
        *pieces, last = view.stream("What?")
    assert "".join(event.piece for event in pieces) == last.answer.text == "Yes."  # type: ignore[union-attr]


def test_a_closed_or_foreign_view_is_refused(tiny: Bundle) -> None:
    with (
        Pipeline(tiny, opener=Script("Yes.")) as pipeline,
        Pipeline(tiny, opener=Script("Yes.")) as other,
    ):
        with pipeline.view(PICTURE) as view, pytest.raises(VptError, match="another pipeline"):
            other.ask(view, "What?")
        with pytest.raises(VptError, match="view is closed"):
            view.ask("What?")
