"""Questions about frames of a scene: what stands in the prompt, what is dropped, and looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from zoom import WHOLE, call, zoom_bundle

from vpt_edge.runtime import Bundle, Frames, Looked, Pipeline
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.errors import ContextLengthError, ImageError, PromptError
from vpt_edge.runtime.perception.none import NoneConfig, block
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime import Answer

PLAIN = block(NoneConfig(None, None))
PAD = "<|video_pad|>"
SIZE = (128, 64)  # 8 visual tokens of 32 pixels a side, 4x2; of 28 pixels 5x2


def frames(count: int, moving: int = 0) -> Frames:
    """Half a second apart; in the first visual token of each there is something else for the
    first ``moving`` of them.
    """
    pictures = list[Image.Image]()
    for number in range(count):
        pixels = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        pixels[:20, :20] = (60 + 20 * min(number, moving)) % 256
        pictures.append(Image.fromarray(pixels))
    return Frames(pictures, [number / 2 for number in range(count)])


def bundle_of(path: Path, model: str) -> Bundle:
    return tiny_bundle(path, model=model, perception=PLAIN)


def ask(bundle: Bundle, shown: Frames, question: str = "What?", **options: float) -> Answer:
    with Pipeline(bundle, opener=Script("Yes.")) as pipeline:
        return pipeline.ask(shown, question, **options)  # type: ignore[arg-type]


def prompt_of(bundle: Bundle, answer: Answer) -> str:
    """The prompt in words, runs of pads as their count."""
    chat = Chat(bundle.tokenizer_file, {})
    (pad,) = chat.encode(PAD)
    text = ""
    run = 0
    for token in [*answer.turns[0].prompt_ids, -1]:
        if token == pad:
            run += 1
            continue
        if run:
            text += f"[{run}]"
            run = 0
        if token >= 0:
            text += chat._tokenizer.decode([token], skip_special_tokens=False)
    return text.removeprefix("<|im_start|>user\n").partition("<|im_end|>")[0]


def test_qwen2_vl_sees_pairs_as_one_video(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "qwen2_vl")
    answer = ask(bundle, frames(5))
    assert prompt_of(bundle, answer) == "<|vision_start|>[30]<|vision_end|>What?"
    assert answer.usage.vision_runs == 3
    assert answer.usage.dropped_tokens == 0


def test_qwen3_vl_sees_each_pair_with_its_time(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "qwen3_vl")
    answer = ask(bundle, frames(3))
    shown = "<|vision_start|>[8]<|vision_end|>"
    assert prompt_of(bundle, answer) == f"<0.2 seconds>{shown}<1.0 seconds>{shown}What?"


def test_a_question_places_the_scene(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "qwen2_vl")
    answer = ask(bundle, frames(2), "Is <image> calm?")
    assert prompt_of(bundle, answer) == "Is <|vision_start|>[10]<|vision_end|> calm?"


@pytest.mark.parametrize("model", ["qwen2_vl", "qwen3_vl"])
def test_a_still_scene_is_encoded_once(model: str, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, model)
    whole = ask(bundle, frames(6))
    still = ask(bundle, frames(6), still_pixels=0.01)
    assert (whole.usage.vision_runs, still.usage.vision_runs) == (3, 1)
    dropped = whole.usage.prompt_tokens - still.usage.prompt_tokens
    assert (
        still.usage.dropped_tokens
        == dropped
        == whole.turns[0].prompt_ids.count(pad_of(bundle)) * 2 // 3
    )


def pad_of(bundle: Bundle) -> int:
    (pad,) = Chat(bundle.tokenizer_file, {}).encode(PAD)
    return pad


def test_the_words_of_a_still_frame_stay(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "qwen3_vl")
    answer = ask(bundle, frames(4), still_pixels=0.01)
    empty = "<|vision_start|><|vision_end|>"
    assert prompt_of(bundle, answer) == (
        f"<0.2 seconds><|vision_start|>[8]<|vision_end|><1.2 seconds>{empty}What?"
    )


@pytest.mark.parametrize("model", ["qwen2_vl", "qwen3_vl"])
def test_what_moves_is_shown_where_it_is(model: str, tmp_path: Path) -> None:
    """With the rotations, and so the positions, that it has where all is shown."""
    bundle = bundle_of(tmp_path, model)
    script = Script("Yes.", "Yes.")
    pad = pad_of(bundle)
    with Pipeline(bundle, opener=script) as pipeline:
        whole = pipeline.ask(frames(4, moving=3), "What?")
        pipeline.forget()
        moving = pipeline.ask(frames(4, moving=3), "What?", still_pixels=0.05)
    full, pruned = (
        session for session in script.sessions["decoder"].calls if session["embeds"].shape[1] > 1
    )
    places = np.flatnonzero(np.array(whole.turns[0].prompt_ids) == pad)
    tokens = len(places) // 2
    left_out = places[tokens + 1 :]  # of the second pair all but the first token
    assert moving.usage.dropped_tokens == tokens - 1
    assert moving.usage.vision_runs == 2
    for name in ("cos", "sin"):
        rotations = np.delete(full[name], left_out, axis=full[name].ndim - 2)
        np.testing.assert_array_equal(pruned[name], rotations)


def test_features_are_compared_behind_the_encoder(tmp_path: Path) -> None:
    """A script's features all point one way."""
    bundle = bundle_of(tmp_path, "qwen3_vl")
    alike = ask(bundle, frames(6, moving=6), still_features=0.9)
    assert (alike.usage.vision_runs, alike.usage.dropped_tokens) == (3, 16)
    other = ask(bundle, frames(6, moving=6), still_features=1.0)
    assert (other.usage.vision_runs, other.usage.dropped_tokens) == (3, 0)


def test_a_still_scene_may_be_longer_than_the_cache(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, capacity=100, model="qwen2_vl", perception=PLAIN)
    with pytest.raises(ContextLengthError):
        ask(bundle, frames(40))
    assert ask(bundle, frames(40), still_pixels=0.01).text == "Yes."
    with pytest.raises(ContextLengthError):
        ask(bundle, frames(40, moving=40), still_pixels=0.0)


def test_another_question_finds_the_scene_in_the_cache(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "qwen3_vl")
    script = Script("Yes.", "No.")
    with Pipeline(bundle, opener=script) as pipeline, pipeline.encode(frames(4)) as scene:
        first = scene.ask("Is it open?", still_pixels=0.01)
        second = scene.ask("Who is there?", still_pixels=0.01)
    assert (first.usage.vision_runs, second.usage.vision_runs) == (1, 0)
    assert second.usage.reused_tokens > first.usage.prompt_tokens // 2


def test_a_look_is_cut_from_the_frame_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(call([0, 0, 20, 20], source=1), WHOLE.replace("0", "1"), "Yes.")
    shown = frames(4, moving=3)
    with Pipeline(zoom_bundle(tmp_path, monkeypatch), opener=script) as pipeline:
        *events, last = pipeline.stream(shown, "What?")
    answer = last.answer  # type: ignore[union-attr]
    crop, whole = (event for event in events if isinstance(event, Looked))
    assert (crop.picture, whole.picture) == (1, 1)
    later = shown.pictures[3]
    assert isinstance(later, Image.Image) and crop.crop is not None
    np.testing.assert_array_equal(crop.crop, later.crop((0, 0, 20, 20)))
    assert answer.text == "Yes."
    np.testing.assert_array_equal(answer.others[0], later)


def test_frames_are_refused_where_a_model_takes_a_picture(tmp_path: Path) -> None:
    with (
        Pipeline(tiny_bundle(tmp_path), opener=Script()) as pipeline,
        pytest.raises(PromptError, match="found 3 frames of a scene, this model takes a picture"),
    ):
        pipeline.ask(frames(3), "What?")


def test_what_is_for_frames_alone_is_refused_for_pictures(tmp_path: Path) -> None:
    with Pipeline(bundle_of(tmp_path, "qwen2_vl"), opener=Script()) as pipeline:
        with pytest.raises(PromptError, match="are for frames of a scene, found pictures"):
            pipeline.ask(frames(1).pictures[0], "What?", still_pixels=0.1)
        with pytest.raises(PromptError, match="first_token_share is for pictures, found frames"):
            pipeline.ask(frames(2), "What?", first_token_share=0.5)


def test_frames_of_several_sizes_are_refused(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 64)), Image.new("RGB", (64, 65))]
    with (
        Pipeline(bundle_of(tmp_path, "qwen2_vl"), opener=Script()) as pipeline,
        pytest.raises(ImageError, match="of several sizes: 64x64, 64x65; bring them to one size"),
    ):
        pipeline.ask(Frames(pictures, [0.0, 1.0]), "What?")
