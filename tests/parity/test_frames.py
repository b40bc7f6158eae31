"""Frames of one scene: patches, features, ids, positions and logits are those of transformers.

Two things differ, and are held here: it leaves its template's marks of a video around the marks of
each frame of Qwen3-VL's, and lets the text behind a video of Qwen2-VL and Qwen2.5-VL begin at the
side of its frames even where time has gone further. Its versions before 5 did neither, and with
those the models' makers released them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from pictures import noise
from PIL import Image

from parity.reference import Scene
from parity.test_parity import FEATURES, LOGITS, LOOK, TOKENS, relative
from vpt_edge.runtime.models import open_tower

if TYPE_CHECKING:
    from parity.conftest import Measure
    from parity.loop import Loop
    from parity.reference import Reference
    from vpt_edge.runtime import Bundle

Case: TypeAlias = tuple[tuple[int, int], int, float]
CASES: tuple[Case, ...] = (  # size, how many, a second
    ((224, 160), 4, 2.0),
    ((150, 90), 3, 8.0),
    ((300, 224), 5, 4.0),
)
QUESTION = "What happens?"
START = "<|vision_start|>"
END = "<|vision_end|>"


def make(size: tuple[int, int], count: int, rate: float) -> Scene:
    first = np.asarray(noise(*size))
    pictures = [Image.fromarray(np.roll(first, 9 * number, axis=1)) for number in range(count)]
    return Scene(pictures, rate)


def seconds_of(scene: Scene) -> list[float]:
    return [number / scene.rate for number in range(len(scene.frames))]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_frames_are_put_into_patches_by_pairs(
    case: Case, bundle: Bundle, family: str, reference: Reference, measure: Measure
) -> None:
    scene = make(*case)
    tower = open_tower(bundle.manifest)
    values, grids = reference.patches(scene)
    pairs = np.array_split(np.array(values), int(grids[0, 0]))
    for number, expected in enumerate(pairs):
        first = scene.frames[2 * number]
        last = scene.frames[min(2 * number + 1, len(scene.frames) - 1)]
        patches = tower.preprocess(first, bundle.manifest.image, last)
        assert patches.grid == (1, *grids[0, 1:].tolist())
        measure(family, "pixels of frames", float(np.abs(patches.values - expected).max()), 0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_frames_are_asked_about_as_by_transformers(
    case: Case, family: str, loop: Loop, reference: Reference, measure: Measure
) -> None:
    scene = make(*case)
    encoded = loop.show(scene.frames, seconds_of(scene), QUESTION)
    features = np.concatenate([each.features for each in encoded])
    difference = relative(features, reference.scene_features(scene))
    measure(family, "features of frames, of the largest", difference, FEATURES)

    place = reference.place(scene)
    if family != "qwen3_vl":
        place = f"{START}{place}{END}"
    turn = f"<|im_start|>user\n{place}{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    assert loop.context.ids == loop.tokenize(turn)

    prompt = list(loop.context.ids)
    positions = loop.positions()
    assert (positions == reference.positions(prompt, scene)).all()
    expected = reference.logits(prompt, [], scene)[-1]
    logits = float(np.abs(loop.prefill() - expected).max())
    measure(family, "logits behind frames", logits, LOGITS)

    loop.generate(TOKENS)
    look = noise(140, 90)
    loop.say(LOOK, loop.encode(look))
    expected = reference.logits(loop.context.ids, [look], scene)[-1]
    second = float(np.abs(loop.prefill() - expected).max())
    measure(family, "logits behind a look at a frame, on one cache", second, LOGITS)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"], indirect=True)
def test_the_text_behind_a_long_scene_stands_behind_its_last_moment(
    family: str, loop: Loop, reference: Reference, measure: Measure
) -> None:
    scene = make((84, 56), 12, 0.5)
    loop.show(scene.frames, seconds_of(scene), QUESTION)
    prompt = list(loop.context.ids)
    positions = loop.positions()
    (visual,) = loop.context.visuals
    theirs = reference.positions(prompt, scene)
    assert (positions[:, : visual.end] == theirs[:, : visual.end]).all()
    behind = positions[:, visual.end :]
    assert behind[0, 0] == positions[0, visual.end - 1] + 1 > theirs[0, visual.end]
    assert (behind - behind[:, :1] == theirs[:, visual.end :] - theirs[:, visual.end, None]).all()
    expected = reference.logits(prompt, [], scene, positions)[-1]
    logits = float(np.abs(loop.prefill() - expected).max())
    measure(family, "logits behind frames", logits, LOGITS)
