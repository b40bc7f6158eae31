"""The last frames of a source: far enough apart, and no more than asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import BLACK, CameraSource, ClipSource, frame

from vpt_edge.live.recent import RecentFrames, Span
from vpt_edge.live.watch import watch
from vpt_edge.runtime import Bundle, Frames, Pipeline
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.perception.none import NoneConfig, block
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path, model="qwen3_vl", perception=block(NoneConfig(None, None)))


@settings(max_examples=25)
@given(
    gaps=st.lists(st.floats(0.01, 2), min_size=1, max_size=40),
    count=st.integers(2, 6),
    every=st.floats(0.05, 1),
)
def test_frames_are_as_far_apart_as_asked_and_end_with_the_newest(
    gaps: list[float], count: int, every: float
) -> None:
    recent = RecentFrames(Span(count, every))
    positions = np.cumsum(gaps).tolist()
    newest = frame(0)
    for number, position in enumerate(positions):
        newest = frame(number, np.full_like(BLACK, number), position=position)
        recent.add(newest)
    shown = recent.up_to(newest)
    assert isinstance(shown, Frames)
    assert 1 <= len(shown.pictures) <= count
    assert shown.seconds[0] == 0
    assert all(gap >= every - 1e-6 for gap in np.diff(shown.seconds))
    last: Any = shown.pictures[-1]
    np.testing.assert_array_equal(last, newest.pixels)
    if positions[-1] - positions[0] >= every:
        assert len(shown.pictures) > 1


def test_a_source_that_begins_anew_is_another_scene() -> None:
    recent = RecentFrames(Span(4))
    for position in (0.0, 0.5, 1.0, 0.0, 0.5):
        recent.add(frame(0, position=position))
    assert recent.up_to(frame(0, position=0.5)).seconds == (0.0, 0.5)


def test_frames_of_another_size_are_another_scene() -> None:
    recent = RecentFrames(Span(4))
    recent.add(frame(0, BLACK[:32], position=0.0))
    recent.add(frame(1, position=0.5))
    assert recent.up_to(frame(2, position=1.0)).seconds == (0.0, 0.5)


@pytest.mark.parametrize(
    ("count", "every", "problem"),
    [
        (1, 0.5, "found 1 frames, expected 2 to 768"),
        (769, 0.5, "found 769 frames"),
        (2.0, 0.5, "found 2.0 frames"),
        (2, 0, "found 0 seconds between two frames, expected more than 0 and up to 3600"),
        (2, float("nan"), "found nan seconds"),
    ],
)
def test_other_spans_are_refused(count: Any, every: Any, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        Span(count, every)


def test_a_watch_asks_about_the_last_frames(bundle: Bundle) -> None:
    """A picture each fifth of a second, asked about each second: five seconds of a clip."""
    frames = [frame(n, np.full_like(BLACK, n), position=n / 5) for n in range(26)]
    script = Script(*["Yes."] * 6)
    with Pipeline(bundle, opener=script) as pipeline:
        watched = watch(pipeline, ClipSource(frames), "What?", every=1.0, span=Span(4, 0.4))
        seen = list(watched)
    assert [each.frame.position for each in seen] == [0, 1, 2, 3, 4, 5]
    assert [each.answer.usage.vision_runs for each in seen] == [1, 2, 2, 2, 2, 2]
    (newest, *_) = seen[-1].answer.others
    assert np.asarray(newest)[0, 0, 0] == 25


def test_what_passes_while_an_answer_comes_is_shown_with_the_next(bundle: Bundle) -> None:
    script = Script("Yes, it is.", "Yes.")
    camera = CameraSource()
    with Pipeline(bundle, opener=script) as pipeline:
        watched = watch(pipeline, camera, "What?", every=0, span=Span(8, 0.5))
        position = 0.0

        def capture() -> None:
            nonlocal position
            camera.show(frame(0, position=position))
            position += 0.5

        watched.pulse = capture  # at each piece of an answer too
        first = next(watched)
        second = next(watched)
        watched.close()
    assert len(first.answer.others) == 0
    assert len(second.answer.others) >= 2
    (counts,) = watched.counts
    assert counts.busy >= 3
