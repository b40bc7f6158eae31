"""What a look shows: crops of crops, several pictures, whole pictures, sizes and limits."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from scripted import PICTURE, PICTURE_TOKENS
from zoom import SYSTEM, WHOLE, call, zoom_bundle

from vpt_edge.runtime import Bundle, Crop, Finished, Looked, Pipeline
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR
from vpt_edge.runtime.perception.actions import Whole
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime import Answer

OTHER = Image.fromarray(np.full((60, 180, 3), 90, np.uint8))  # 6x2 tokens


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    return zoom_bundle(tmp_path, monkeypatch)


def answer_of(script: Script, bundle: Bundle, images: Any = PICTURE, **options: Any) -> Answer:
    with Pipeline(bundle, opener=script) as pipeline:
        return pipeline.ask(images, "What?", **options)


def opening(bundle: Bundle, *tokens: int) -> list[int]:
    """The ids of the question, behind pictures of so many tokens."""
    pictures = ""
    for count in tokens:
        pictures += f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"
    text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    text += f"<|im_start|>user\n{pictures}What?<|im_end|>\n<|im_start|>assistant\n"
    return Chat(bundle.tokenizer_file, {}).encode(text)


def test_a_crop_of_a_crop_is_where_it_says(bundle: Bundle) -> None:
    script = Script(call((8, 4, 72, 60)), call((10, 6, 50, 46), source=1), "Yes.")
    first, second = answer_of(script, bundle).looks
    assert (first.source, first.box, second.source) == (0, (8, 4, 72, 60), 1)
    assert second.box == (18, 10, 58, 50)
    assert second.crop is not None
    assert second.crop.tobytes() == PICTURE.crop((18, 10, 58, 50)).tobytes()
    assert second.describe() == "looked again at 40x40 px from (18,10)"


def test_a_look_sees_the_picture_that_it_names(bundle: Bundle) -> None:
    script = Script(call((90, 10, 170, 50), source=1), call((0, 0, 40, 30), source=2), "Yes.")
    answer = answer_of(script, bundle, [PICTURE, OTHER])
    first, second = answer.looks
    assert (first.picture, first.box, first.source) == (1, (90, 10, 170, 50), 1)
    assert (second.picture, second.box, second.source) == (1, (90, 10, 130, 40), 2)
    assert first.describe() == "looked again at 80x40 px from (90,10) of picture 2"
    saved = [look.to_dict() for look in answer.looks]
    assert [(look["picture"], look["source"]) for look in saved] == [(1, 1), (1, 2)]
    assert json.dumps(saved)


def test_several_pictures_stand_in_their_order(bundle: Bundle) -> None:
    answer = answer_of(Script("Yes."), bundle, (OTHER, PICTURE, OTHER))
    (turn,) = answer.turns
    assert list(turn.prompt_ids) == opening(bundle, 12, PICTURE_TOKENS, 12)
    assert answer.usage.vision_runs == 3
    images = [answer.image, *answer.others]
    assert [image.size for image in images] == [OTHER.size, PICTURE.size, OTHER.size]


@pytest.mark.parametrize("count", [0, 4])
def test_a_number_of_pictures_that_it_does_not_take(bundle: Bundle, count: int) -> None:
    with pytest.raises(PromptError, match=f"^found {count} pictures, this model takes 1 to 3;"):
        answer_of(Script("Yes."), bundle, [PICTURE] * count)


def test_every_way_of_asking_takes_several(bundle: Bundle) -> None:
    script = Script(*["Yes."] * 6)
    with Pipeline(bundle, opener=script) as pipeline, pipeline.encode([PICTURE, OTHER]) as both:
        assert [picture.size for picture in both.pictures] == [PICTURE.size, OTHER.size]
        answers = [pipeline.ask([PICTURE, OTHER], "A?"), both.ask("B?")]
        *_, last = pipeline.stream((PICTURE, OTHER), "C?")
        assert isinstance(last, Finished)
        answers.append(last.answer)
        *_, last = both.stream("D?")
        assert isinstance(last, Finished)
        answers += [last.answer, asyncio.run(pipeline.aask([PICTURE, OTHER], "E?"))]
        answers.append(asyncio.run(both.aask("F?")))
    expected = len(opening(bundle, PICTURE_TOKENS, 12)) - len("What")
    for answer in answers:
        assert (answer.text, len(answer.others)) == ("Yes.", 1)
        assert len(answer.turns[0].prompt_ids) == expected + 1
    assert [answer.usage.vision_runs for answer in answers] == [2, 2, 2, 0, 2, 0]


def test_encoded_pictures_are_shown_together(bundle: Bundle) -> None:
    script = Script("Yes.", "No.", "Both.")
    with Pipeline(bundle, opener=script) as pipeline:
        one = pipeline.encode(PICTURE)
        other = pipeline.encode(OTHER)
        one.ask("A?")
        other.ask("B?")
        answer = pipeline.ask([one, other], "What?")
        assert answer.usage.vision_runs == 0  # each of them was encoded before
        assert list(answer.turns[0].prompt_ids) == opening(bundle, PICTURE_TOKENS, 12)
        other.close()
        with pytest.raises(Exception, match="the encoded picture is closed"):
            pipeline.ask([one, other], "What?")


def test_a_first_view_may_be_smaller_and_the_look_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = zoom_bundle(tmp_path, monkeypatch, halves=True)
    script = Script(WHOLE, call((112, 0, 224, 112), source=1), "Yes.")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8))
    with Pipeline(bundle, opener=script) as pipeline, pipeline.encode(picture) as encoded:
        answer = encoded.ask("What?")
        whole, crop = answer.looks
        assert (whole.action, whole.kind, whole.box, whole.tokens) == (Whole(0), "whole", None, 64)
        assert whole.describe() == "looked again at the whole picture (whole, 64 tokens)"
        assert (crop.box, crop.tokens) == ((112, 0, 224, 112), 16)
        assert crop.crop is not None and crop.crop.tobytes() == picture.crop(crop.box).tobytes()
        assert list(answer.turns[0].prompt_ids) == opening(bundle, 16)
        half = picture.resize((112, 112), Image.Resampling.LANCZOS)
        shown = [call["patches"][0] for call in script.sessions["vision_encoder"].calls]
        limits = bundle.manifest.image
        for patches, image in zip(shown, (half, picture, crop.crop), strict=True):
            np.testing.assert_array_equal(patches, PROCESSOR.preprocess(image, limits).values)


def test_a_crop_is_brought_to_its_size_before_it_is_shown(bundle: Bundle) -> None:
    box = (8, 4, 40, 36)
    script = Script(call(box, size=[64, 64]), call((32, 0, 64, 32), source=1), "Yes.")
    first, second = answer_of(script, bundle).looks
    assert isinstance(first.action, Crop) and first.action.size == (64, 64)
    assert first.crop is not None and second.crop is not None
    enlarged = PICTURE.crop(box).resize((64, 64), Image.Resampling.LANCZOS)
    assert first.crop.tobytes() == enlarged.tobytes()
    assert second.crop.tobytes() == enlarged.crop((32, 0, 64, 32)).tobytes()
    assert (first.box, second.box) == (box, (24, 4, 40, 20))  # in pixels of the picture


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        ((28 * 28 * 30, 28 * 28 * 40), 36),  # enlarged
        ((3136, 28 * 28 * 4), 4),
        ((3136, 1 << 30), 4),  # the bundle's most
    ],
)
def test_a_look_has_limits_of_its_own(bundle: Bundle, limits: tuple[int, int], tokens: int) -> None:
    answer = answer_of(Script(call((0, 0, 64, 64), limits=limits), "Yes."), bundle)
    assert [look.tokens for look in answer.looks] == [tokens]


def test_no_look_is_enlarged_beyond_what_the_graph_takes(bundle: Bundle) -> None:
    graph = bundle.manifest.graphs["vision_encoder"]
    graph = replace(graph, bounds={**graph.bounds, "tokens": (1, 9, 30)})
    graphs = {**bundle.manifest.graphs, "vision_encoder": graph}
    small = replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))
    script = Script(call((0, 0, 64, 64), limits=(28 * 28 * 30, 28 * 28 * 40)), "Yes.")
    assert [look.tokens for look in answer_of(script, small).looks] == [4]


def test_a_request_narrows_the_limits(bundle: Bundle) -> None:
    script = Script(call((0, 0, 90, 60), source=0), "Yes.")
    answer = answer_of(script, bundle, OTHER, max_pixels=28 * 28 * 4)
    assert len(answer.turns[0].prompt_ids) == len(opening(bundle, 3))
    assert [look.tokens for look in answer.looks] == [2]
    answer = answer_of(Script("Yes."), bundle, OTHER, min_pixels=28 * 28 * 20)
    assert len(answer.turns[0].prompt_ids) == len(opening(bundle, 24))


@pytest.mark.parametrize(
    "options",
    [
        {"min_pixels": 3135},
        {"max_pixels": 12845057},
        {"min_pixels": 5000, "max_pixels": 4999},
        {"max_pixels": 0},
        {"max_pixels": -1},
    ],
)
def test_limits_beyond_the_bundles_are_refused(bundle: Bundle, options: Any) -> None:
    with pytest.raises(PromptError, match="expected them within the bundle's 3136 to 12845056"):
        answer_of(Script("Yes."), bundle, **options)


def test_an_encoded_picture_is_encoded_once_for_each_limit(bundle: Bundle) -> None:
    script = Script(*["Yes."] * 5)
    with Pipeline(bundle, opener=script) as pipeline, pipeline.encode(OTHER) as picture:
        runs = []
        for number, most in enumerate((None, 3136, None, 3136, 6000)):
            answer = picture.ask(f"{number}?", max_pixels=most)
            runs.append(answer.usage.vision_runs)
        assert runs == [1, 1, 0, 0, 1]


def test_looks_into_several_pictures_are_drawn_and_saved(bundle: Bundle, tmp_path: Path) -> None:
    script = Script(call((90, 10, 170, 50), source=1), call((0, 0, 40, 30)), "Yes.")
    answer = answer_of(script, bundle, [PICTURE, OTHER])
    assert [region.picture for region in answer.regions()] == [1, 0]
    answer.save(tmp_path / "answer")
    names = sorted(path.name for path in (tmp_path / "answer").iterdir())
    assert names == ["answer.json", "crop_0.png", "crop_1.png", "overlay.png"]
    alone = answer_of(Script("Yes."), bundle).plot()
    assert answer.plot().size != alone.size


def test_events_carry_the_looks(bundle: Bundle) -> None:
    script = Script(call((0, 0, 40, 30), (8, 8, 40, 40)), "Yes.")
    with Pipeline(bundle, opener=script) as pipeline:
        events = list(pipeline.stream([PICTURE, OTHER], "What?"))
    looks = [event for event in events if isinstance(event, Looked)]
    assert [look.box for look in looks] == [(0, 0, 40, 30), (8, 8, 40, 40)]
