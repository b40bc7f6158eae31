"""A watch over scripted sources and a model that speaks from a script."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sources import BLACK, BrokenRaster, CameraSource, ClipSource, clip, frame

from vpt_edge.live.recent import Span
from vpt_edge.live.seen import Failure, Seen, StateChange
from vpt_edge.live.watch import Watch, awatch, watch
from vpt_edge.runtime import Bundle, Pipeline, VptError
from vpt_edge.runtime.errors import PromptError, SessionError, SourceError
from vpt_edge.runtime.testing import Script, ScriptedSession, tiny_bundle

LONG = "a" * 600
REGION = "<|region_token_start|><|x_1|><|y_2|><|x_3|><|region_token_end|>"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


def open_pipeline(bundle: Bundle, *turns: str) -> Pipeline:
    return Pipeline(bundle, opener=Script(*turns))


def keep_pictures(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pictures that ``pipeline`` encodes from now on."""
    encode = pipeline.encode
    pictures = list[Any]()

    def keep(image: Any) -> Any:
        pictures.append(encode(image))
        return pictures[-1]

    monkeypatch.setattr(pipeline, "encode", keep)
    return pictures


def varied(count: int, source: str = "test") -> list[Any]:
    """Frames that differ, as a script needs them."""
    frames = []
    for number in range(count):
        frames.append(frame(number, np.full_like(BLACK, 20 * number + 5), source=source))
    return frames


class SlowSession(ScriptedSession):
    """Takes its time for a token, and says when it has begun."""

    begun: threading.Event

    def run(self, inputs: Any, outputs: Any) -> None:
        if self._name == "decoder":
            self.begun.set()
            time.sleep(0.02)
        super().run(inputs, outputs)


class SlowScript(Script):
    def __init__(self, *turns: str) -> None:
        super().__init__(*turns)
        self.begun = threading.Event()

    def __call__(self, model: Any, name: str, /) -> Any:
        session = super().__call__(model, name)
        session.__class__ = SlowSession
        session.begun = self.begun  # type: ignore[attr-defined]
        return session


def test_a_clip_is_asked_about_every_two_seconds(bundle: Bundle) -> None:
    with open_pipeline(bundle, "yes", "no", "yes") as pipeline:
        answers = watch(pipeline, ClipSource(varied(4)), "Open?", every=0.08)
        seen = list(answers)
    assert [(each.frame.number, each.answer.text) for each in seen] == [(0, "yes"), (2, "no")]
    (counts,) = answers.counts
    assert dataclasses.asdict(counts) == {
        "source": "test",
        "frames": 4,
        "asked": 2,
        "failures": 0,
        "busy": 0,
        "every": 2,
        "gate": 0,
        "reconnects": 0,
        "requests": 0,
        "unanswered": 0,
        "undecoded": 0,
    }


def test_questions_share_one_encoding(bundle: Bundle) -> None:
    script = Script("one", "two", "three", "four", "five", "six")
    with Pipeline(bundle, opener=script) as pipeline:
        seen = list(watch(pipeline, ClipSource(varied(2)), "A?", "B?", "C?", every=0))
    assert [each.question for each in seen] == ["A?", "B?", "C?"] * 2
    assert [each.answer.usage.vision_runs for each in seen] == [1, 0, 0] * 2
    assert len(script.sessions["vision_encoder"].calls) == 2


def test_encoded_pixels_are_let_go_with_the_last_question(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_pipeline(bundle, "yes", "no") as pipeline:
        pictures = keep_pictures(pipeline, monkeypatch)
        list(watch(pipeline, ClipSource(varied(2)), "Open?", every=0))
    assert [picture.closed for picture in pictures] == [True, True]


def noisy(levels: list[int]) -> list[Any]:
    """Frames of one shade each."""
    return [frame(number, np.full_like(BLACK, level)) for number, level in enumerate(levels)]


def test_a_picture_that_barely_changed_is_not_encoded_again(bundle: Bundle) -> None:
    """It is held against what was encoded, so that a slow change is seen."""
    script = Script(*"abcdefghij")
    frames = noisy([50, 52, 58, 62, 70])
    with Pipeline(bundle, opener=script) as pipeline:
        answers = watch(pipeline, ClipSource(frames), "A?", "B?", every=0, reuse=0.04)
        seen = list(answers)
    runs = [each.answer.usage.vision_runs for each in seen]
    assert runs == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0]  # 62 differs by 12 of 255, 58 and 70 by 8
    assert [each.answer.text for each in seen] == list("abcdefghij")
    same = [None if each.same_as is None else each.same_as.number for each in seen]
    assert same == [None, None, 0, 0, 0, 0, None, None, 3, 3]
    assert [each.shown.number for each in seen] == [0, 0, 0, 0, 0, 0, 3, 3, 3, 3]
    assert [each.frame.number for each in seen] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [each.to_dict().get("same_as") for each in seen] == same
    later = [each.answer.usage for each in seen[2:6]]
    first = seen[0].answer.usage
    assert all(usage.computed_tokens < first.computed_tokens for usage in later)


def test_without_reuse_each_frame_is_encoded(bundle: Bundle) -> None:
    with open_pipeline(bundle, *"abcdef") as pipeline:
        seen = list(watch(pipeline, ClipSource(noisy([50, 50, 50])), "A?", "B?", every=0))
    assert [each.answer.usage.vision_runs for each in seen] == [1, 0] * 3
    assert [each.same_as for each in seen] == [None] * 6
    assert all("same_as" not in each.to_dict() for each in seen)


def test_a_kept_picture_is_let_go_at_the_end_and_after_a_fault(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = noisy([50, 50, 50, 50])
    frames[1] = dataclasses.replace(frames[1], raster=BrokenRaster())
    with open_pipeline(bundle, *"abcdef") as pipeline:
        pictures = keep_pictures(pipeline, monkeypatch)
        answers = watch(pipeline, ClipSource(frames), "A?", "B?", every=0, reuse=True)
        happened = [type(event).__name__ for event in answers.events()]
    assert happened.count("Failure") == 1
    assert [picture.closed for picture in pictures] == [True, True]  # of the frames 0 and 2


def test_one_picture_is_reused_and_frames_of_a_scene_are_not(bundle: Bundle) -> None:
    with (
        open_pipeline(bundle) as pipeline,
        pytest.raises(PromptError, match="reuse is about one frame, and span asks about several"),
    ):
        watch(pipeline, ClipSource([]), "A?", span=Span(2), reuse=True)


@pytest.mark.parametrize("reuse", [0, 1, -0.5, 2])
def test_a_threshold_of_reuse_is_a_share(bundle: Bundle, reuse: float) -> None:
    with (
        open_pipeline(bundle) as pipeline,
        pytest.raises(VptError, match=f"reuse is {reuse}, expected a share between 0 and 1"),
    ):
        watch(pipeline, ClipSource([]), "A?", reuse=reuse)


def test_sources_take_turns(bundle: Bundle) -> None:
    """Whatever one has in store, the other is not kept waiting."""
    sources = [ClipSource(varied(5, "a"), "a"), ClipSource(varied(3, "b"), "b")]
    with open_pipeline(bundle, *"12345678") as pipeline:
        answers = watch(pipeline, sources, "Open?", every=0)
        order = [each.frame.source for each in answers]
    assert order == ["a", "b", "a", "b", "a", "b", "a", "a"]
    assert [each.asked for each in answers.counts] == [5, 3]


def test_a_source_without_a_due_frame_leaves_its_turn(bundle: Bundle) -> None:
    sources = [ClipSource(varied(12, "a"), "a"), ClipSource(varied(4, "b"), "b")]
    with open_pipeline(bundle, *"123456") as pipeline:
        order = [each.frame.source for each in watch(pipeline, sources, "Open?", every=0.12)]
    assert order == ["a", "b", "a", "b", "a", "a"]


def test_of_a_camera_the_newest_frame_is_asked_about(bundle: Bundle) -> None:
    camera = CameraSource()
    frames = varied(6)
    with open_pipeline(bundle, "yes", "no") as pipeline:
        answers = watch(pipeline, camera, "Open?", every=0)
        camera.show(frames[0])
        assert next(answers).frame is frames[0]
        for each in frames[1:]:  # while nobody asks
            camera.show(each)
        assert next(answers).frame is frames[5]
        camera.close()
        assert list(answers) == []
    assert answers.counts[0].busy == 4
    assert answers.counts[0].frames == answers.counts[0].asked + answers.counts[0].busy


def test_ages_are_those_of_the_frame(bundle: Bundle) -> None:
    old = frame(0, monotonic=time.monotonic() - 5)
    with Pipeline(bundle, opener=SlowScript("yes")) as pipeline:
        (seen,) = watch(pipeline, ClipSource([old]), "Open?")
    assert 5 <= seen.age_at_start < 6
    assert seen.age_at_end >= seen.age_at_start + 0.02


def test_a_broken_frame_is_not_the_end(bundle: Bundle) -> None:
    thin = frame(1, np.zeros((1, 4000, 3), np.uint8))
    frames = [frame(0, raster=BrokenRaster()), thin, frame(2)]
    with open_pipeline(bundle, "yes") as pipeline:
        answers = watch(pipeline, ClipSource(frames), "Open?", every=0, on_change=True)
        events = list(answers.events())
    kinds = [type(event) for event in events]
    assert kinds == [StateChange, Failure, Failure, Seen, StateChange]
    assert isinstance(events[1], Failure)
    assert events[1].describe() == "test: frame 0 was not asked about: the picture is broken"
    assert answers.counts[0].failures == 2
    assert answers.counts[0].asked == 3


def test_a_frame_that_is_not_due_is_not_looked_at(bundle: Bundle) -> None:
    """Only so can a source leave it undecoded."""
    early = [frame(number, raster=BrokenRaster()) for number in (1, 2, 3)]
    frames = [frame(0, position=0), *early, frame(4, position=9)]
    with open_pipeline(bundle, "yes", "yes") as pipeline:
        answers = watch(pipeline, ClipSource(frames), "Open?", every=9, on_change=True)
        events = list(answers.events())
    assert [event for event in events if isinstance(event, Failure)] == []
    assert answers.counts[0].every == 3


def test_an_error_of_the_pipeline_is_the_end(bundle: Bundle) -> None:
    pipeline = open_pipeline(bundle)  # nothing to say
    with pipeline, pytest.raises(VptError, match="no turn left"):
        next(watch(pipeline, ClipSource(clip(3)), "Open?"))


def test_a_source_that_cannot_be_read_is_the_end(bundle: Bundle) -> None:
    def frames() -> Iterator[Any]:
        yield frame(0)
        raise SourceError("clip.mp4 is cut off")

    with open_pipeline(bundle, "yes") as pipeline:
        answers = watch(pipeline, ClipSource(frames()), "Open?")
        assert next(answers).answer.text == "yes"
        with pytest.raises(SourceError, match="cut off"):
            next(answers)


def test_states_are_told_in_order(bundle: Bundle) -> None:
    camera = CameraSource()
    told = list[Any]()
    with open_pipeline(bundle, "yes") as pipeline:
        answers = watch(pipeline, camera, "Open?")
        events = answers.events()
        told.append(next(events))
        camera.enter("live")
        told.append(next(events))
        camera.show(frame(0))
        assert isinstance(next(events), Seen)
        camera.enter("lost", SourceError("the camera does not answer"))
        told.append(next(events))
        camera.enter("live")
        told.append(next(events))
        camera.close()
        told += events
    states = [event.state for event in told if isinstance(event, StateChange)]
    assert states == ["connecting", "live", "lost", "live", "ended"]
    assert told[2].describe() == "camera: lost: the camera does not answer"
    assert answers.counts[0].reconnects == 1


def test_an_outage_that_is_over_again_is_told(bundle: Bundle) -> None:
    """It was shorter than an answer."""
    camera = CameraSource()
    camera.enter("live")
    with open_pipeline(bundle) as pipeline:
        events = watch(pipeline, camera, "Open?").events()
        next(events)
        camera.enter("lost")
        camera.enter("live")
        told = [next(events), next(events)]
    assert [event.describe() for event in told if isinstance(event, StateChange)] == [
        "camera: lost",
        "camera: live",
    ]


def close_later(answers: Watch, begun: threading.Event) -> list[float]:
    """Closes it from another thread once an answer is on its way; the list gets the time."""
    closed = list[float]()

    def close() -> None:
        begun.wait()
        time.sleep(0.1)
        closed.append(time.monotonic())
        answers.close()

    threading.Thread(target=close).start()
    return closed


def test_close_ends_it_in_the_midst_of_an_answer(bundle: Bundle) -> None:
    script = SlowScript(LONG)
    with Pipeline(bundle, opener=script) as pipeline:
        answers = watch(pipeline, ClipSource(clip(3)), "Open?", every=0)
        closed = close_later(answers, script.begun)
        assert list(answers) == []
        assert time.monotonic() - closed[0] < 1
    assert len(script.sessions["decoder"].calls) < 100


def test_close_ends_the_wait_for_a_frame(bundle: Bundle) -> None:
    waiting = threading.Event()
    waiting.set()
    with open_pipeline(bundle) as pipeline, watch(pipeline, CameraSource(), "Open?") as answers:
        closed = close_later(answers, waiting)
        assert list(answers) == []
        assert time.monotonic() - closed[0] < 1
    assert list(answers) == []


def test_leaving_the_block_closes_it(bundle: Bundle) -> None:
    source = ClipSource(varied(3))
    with open_pipeline(bundle, "yes") as pipeline, watch(pipeline, source, "Open?") as answers:
        next(answers)
    assert list(answers) == []
    assert not source.closed


def test_a_decoder_is_not_kept_waiting(bundle: Bundle) -> None:
    """It shows its frames from a thread of its own, all of them while one answer is computed."""
    camera = CameraSource()
    script = SlowScript("a" * 50)
    asked = list[int]()

    def decode() -> None:
        camera.show(frame(0))
        script.begun.wait()
        for number in range(1, 100):
            camera.show(frame(number))
        asked.append(answers.counts[0].asked)
        answers.close()

    with Pipeline(bundle, opener=script) as pipeline:
        answers = watch(pipeline, camera, "Open?", every=0)
        threading.Thread(target=decode).start()
        assert list(answers) == []
    assert asked == [1]
    assert answers.counts[0].busy == 98


def test_a_pulse_beats_at_each_piece_of_an_answer(bundle: Bundle) -> None:
    beats = list[int]()
    with open_pipeline(bundle, "a" * 40) as pipeline:
        answers = watch(pipeline, ClipSource(clip(1)), "Open?")
        answers.pulse = lambda: beats.append(1)
        list(answers)
    assert len(beats) > 40


def test_a_pulse_beats_while_there_is_nothing_to_do(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["vpt_edge.live.watch"], "PULSE", 0.01)
    beats = list[int]()

    def beat() -> None:
        beats.append(1)
        if len(beats) == 5:
            answers.close()

    with open_pipeline(bundle) as pipeline:
        answers = watch(pipeline, CameraSource(), "Open?")
        answers.pulse = beat
        assert list(answers) == []
    assert len(beats) == 5


def test_what_cannot_be_watched(bundle: Bundle) -> None:
    with open_pipeline(bundle) as pipeline:
        with pytest.raises(PromptError, match="there is no question"):
            watch(pipeline, ClipSource(clip(1)))
        with pytest.raises(VptError, match="there is no source"):
            watch(pipeline, [], "Open?")
        with pytest.raises(SourceError, match=r"a str is not a source; open it first: live.open"):
            watch(pipeline, "clip.mp4", "Open?")  # type: ignore[arg-type]
        with pytest.raises(SourceError, match="a ndarray is not a source"):
            watch(pipeline, [BLACK], "Open?")  # type: ignore[list-item]
        with pytest.raises(PromptError, match="max_new_tokens is 'x'"):
            watch(pipeline, ClipSource(clip(1)), "Open?", max_new_tokens="x")  # type: ignore[arg-type]
        with pytest.raises(VptError, match="every is -1"):
            watch(pipeline, ClipSource(clip(1)), "Open?", every=-1)


def test_options_reach_the_question(bundle: Bundle) -> None:
    with open_pipeline(bundle, "abcdef") as pipeline:
        (seen,) = watch(pipeline, ClipSource(clip(1)), "Open?", max_new_tokens=3)
    assert (seen.answer.text, seen.answer.finish_reason) == ("abc", "length")


def test_a_pipeline_that_is_closed_ends_it(bundle: Bundle) -> None:
    pipeline = open_pipeline(bundle, "yes", "no")
    answers = watch(pipeline, ClipSource(varied(2)), "Open?", every=0)
    next(answers)
    pipeline.close()
    with pytest.raises((VptError, SessionError)):
        next(answers)


def test_an_answer_is_one_line_of_json(bundle: Bundle) -> None:
    shown = frame(7, truth={"Open?": "yes"}, source="rtsp://camera/stream")
    with open_pipeline(bundle, REGION, "yes") as pipeline:
        (seen,) = watch(pipeline, ClipSource([shown]), "Open?", perception="region")
    data = json.loads(json.dumps(seen.to_dict()))
    seconds = data.pop("seconds"), data.pop("age_at_start"), data.pop("age_at_end")
    assert all(isinstance(value, float) for value in seconds)
    usage = data.pop("usage")
    assert usage["vision_runs"] == 2
    assert data == {
        "time": "1970-01-01T00:16:40.280+00:00",
        "source": "rtsp://camera/stream",
        "frame": 7,
        "position": 0.28,
        "question": "Open?",
        "answer": "yes",
        "finish_reason": "stop",
        "looks": [
            {
                "kind": "region",
                "cells": [1, 2, 3, 2],
                "box": [0, 8, 60, 32],
                "tokens": 6,
                "picture": 0,
                "source": 0,
            }
        ],
        "truth": "yes",
    }


class RollingCamera(CameraSource):
    """Has a new frame whenever it is looked at, which differs from the last one."""

    def poll(self) -> Any:
        number = self.counts.frames
        self.counts.frames += 1
        return varied(12, self.name)[number % 12]


def test_only_what_somebody_asks_for_is_asked(bundle: Bundle) -> None:
    with open_pipeline(bundle, "yes", "three", "no") as pipeline:
        answers = watch(pipeline, RollingCamera(), "Open?", every=None)
        answers.ask()
        answers.ask("How many?")
        answers.ask()
        answers.finish()
        seen = list(answers)
    told = [(each.frame.number, each.question, each.answer.text, each.once) for each in seen]
    assert told == [
        (0, "Open?", "yes", False),
        (1, "How many?", "three", True),
        (2, "Open?", "no", False),
    ]
    assert answers.counts[0].asked == answers.counts[0].requests == 3


def test_without_a_request_frames_pass_by(bundle: Bundle) -> None:
    camera = RollingCamera()
    with open_pipeline(bundle, "yes") as pipeline:
        answers = watch(pipeline, camera, "Open?", every=None)

        def beat() -> None:
            if camera.counts.frames == 5:
                answers.ask()
                answers.finish()

        answers.pulse = beat
        (seen,) = answers
    assert seen.frame.number == 5
    (counts,) = answers.counts
    assert (counts.frames, counts.asked, counts.every) == (6, 1, 5)


def test_a_frame_of_before_answers_no_request(bundle: Bundle) -> None:
    """Such as the last one of a camera that was lost since."""
    camera = CameraSource()
    old, new = varied(2)
    with open_pipeline(bundle, "yes") as pipeline:
        answers = watch(pipeline, camera, "Open?", every=None)
        camera.show(old)
        answers.ask()
        answers.finish()

        def beat() -> None:
            if answers.counts[0].every:
                camera.show(dataclasses.replace(new, monotonic=time.monotonic()))

        answers.pulse = beat
        (seen,) = answers
    assert seen.frame.number == 1


def test_a_request_in_the_midst_of_an_answer_waits_for_a_newer_frame(bundle: Bundle) -> None:
    script = SlowScript("yes", "no")
    with Pipeline(bundle, opener=script) as pipeline:
        answers = watch(pipeline, RollingCamera(), "Open?", every=None)
        answers.ask()

        def ask() -> None:
            script.begun.wait()
            answers.ask("Who?")
            answers.finish()

        threading.Thread(target=ask).start()
        seen = list(answers)
    assert [each.question for each in seen] == ["Open?", "Who?"]
    assert seen[1].frame.monotonic > seen[0].frame.monotonic


def test_requests_that_find_no_room_are_dropped_and_counted(bundle: Bundle) -> None:
    with open_pipeline(bundle, *["yes"] * 16) as pipeline:
        answers = watch(pipeline, RollingCamera(), "Open?", every=None)
        for number in range(19):
            answers.ask(f"{number}?")
        assert (answers.counts[0].requests, answers.counts[0].unanswered) == (19, 19)
        answers.finish()
        asked = [each.question for each in answers]
    assert asked == [f"{number}?" for number in range(16)]
    assert (answers.counts[0].requests, answers.counts[0].unanswered) == (19, 3)


def test_a_request_beside_a_schedule_keeps_nothing_from_it(bundle: Bundle) -> None:
    """And both share the encoding, where they meet at a frame."""
    script = Script("1", "2", "3", "4")
    with Pipeline(bundle, opener=script) as pipeline:
        answers = watch(pipeline, RollingCamera(), "Open?", every=0.12)
        answers.ask("Who?")
        answers.ask("Where?")
        seen = [next(answers) for _ in range(4)]
    told = [(each.frame.number, each.question) for each in seen]
    assert told == [(0, "Who?"), (0, "Open?"), (1, "Where?"), (3, "Open?")]
    (counts,) = answers.counts
    assert (counts.frames, counts.asked, counts.every) == (4, 3, 1)
    assert len(script.sessions["vision_encoder"].calls) == 3


def test_each_source_answers_a_request(bundle: Bundle) -> None:
    sources = [RollingCamera("a"), CameraSource("b")]
    with open_pipeline(bundle, "1", "2") as pipeline:
        answers = watch(pipeline, sources, "Open?", every=None)
        answers.ask()
        first = next(answers)
        answers.finish()
        sources[1].show(dataclasses.replace(frame(0), source="b"))
        assert [first.frame.source, next(answers).frame.source] == ["a", "b"]
        assert list(answers) == []


def test_an_end_waits_for_no_source_that_has_ended(bundle: Bundle) -> None:
    sources = [CameraSource("a"), CameraSource("b")]
    with open_pipeline(bundle) as pipeline:
        answers = watch(pipeline, sources, "Open?", every=None)
        answers.ask()
        answers.finish()
        for source in sources:
            source.close()
        assert list(answers) == []
    assert [counts.unanswered for counts in answers.counts] == [1, 1]


def test_what_cannot_be_asked_on_request(bundle: Bundle) -> None:
    with open_pipeline(bundle) as pipeline:
        with pytest.raises(SourceError, match="test is not live"):
            watch(pipeline, ClipSource(clip(1)), "Open?", every=None)
        with pytest.raises(VptError, match="on_change needs every"):
            watch(pipeline, CameraSource(), "Open?", every=None, on_change=True)
        with pytest.raises(SourceError, match="test is not live"):
            watch(pipeline, ClipSource(clip(1)), "Open?").ask()
        answers = watch(pipeline, CameraSource(), "Open?", every=None)
        with pytest.raises(PromptError, match="the question is int, expected text"):
            answers.ask(7)  # type: ignore[arg-type]
        with pytest.raises(PromptError, match="the question is empty; leave it out"):
            answers.ask(" ")
        with pytest.raises(PromptError, match="4097 characters, expected up to 4096"):
            answers.ask("a" * 4097)
        assert answers.counts[0].requests == 0


def test_a_request_that_the_model_cannot_take_is_not_the_end(bundle: Bundle) -> None:
    with open_pipeline(bundle, "yes") as pipeline:
        answers = watch(pipeline, RollingCamera(), "Open?", every=None)
        answers.ask("<|image_pad|>?")
        answers.ask()
        answers.finish()
        events = [event for event in answers.events() if not isinstance(event, StateChange)]
    assert [type(event) for event in events] == [Failure, Seen]
    assert isinstance(events[0], Failure) and "<|image_pad|>" in events[0].describe()
    assert answers.counts[0].failures == 1


def test_who_asks_is_told_what_becomes_of_it(bundle: Bundle) -> None:
    """In the place where it happens, and nothing of what others asked."""
    told = list[tuple[str, Seen | Failure]]()

    def note(name: str) -> Any:
        return lambda result: told.append((name, result))

    camera = RollingCamera()
    with open_pipeline(bundle, *map(str, range(9))) as pipeline:
        answers = watch(pipeline, camera, "Open?", "Shut?", every=0.01)
        assert answers.ask("Who?", note("a")) == 1
        answers.ask(None, note("b"))
        answers.ask("<|image_pad|>?", note("c"))
        answers.finish()
        events = [event for event in answers.events() if not isinstance(event, StateChange)]
    seen = [(name, each.question) for name, each in told if isinstance(each, Seen)]
    assert seen == [("a", "Who?"), ("b", "Open?"), ("b", "Shut?")]
    assert [name for name, each in told if isinstance(each, Failure)] == ["c"]
    assert all(each in events for _, each in told)
    assert len(events) > len(told)


def test_a_frame_that_fails_is_told_to_who_asked(bundle: Bundle) -> None:
    told = list[Seen | Failure]()
    camera = CameraSource()
    with open_pipeline(bundle) as pipeline:
        answers = watch(pipeline, camera, "Open?", "Shut?", every=None)
        answers.ask(None, told.append)
        answers.finish()
        camera.show(frame(0, raster=BrokenRaster()))
        (failure,) = [event for event in answers.events() if isinstance(event, Failure)]
    assert told == [failure]


def test_it_says_how_many_sources_will_answer(bundle: Bundle) -> None:
    with open_pipeline(bundle) as pipeline:
        sources = [CameraSource("a"), CameraSource("b")]
        answers = watch(pipeline, sources, "Open?", every=None)
        assert [answers.ask() for _ in range(17)] == [2] * 16 + [0]


async def collect(pipeline: Pipeline, source: Any, **options: Any) -> list[str]:
    return [seen.answer.text async for seen in awatch(pipeline, source, "Open?", **options)]


def test_an_event_loop_goes_on_meanwhile(bundle: Bundle) -> None:
    async def main() -> tuple[list[str], int]:
        ticks = 0
        task = asyncio.create_task(collect(pipeline, ClipSource(varied(2)), every=0))
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return await task, ticks

    with Pipeline(bundle, opener=SlowScript("yes", "no")) as pipeline:
        texts, ticks = asyncio.run(main())
    assert texts == ["yes", "no"]
    assert ticks > 3


def test_a_cancelled_task_ends_it(bundle: Bundle) -> None:
    script = SlowScript(LONG)

    async def main() -> None:
        task = asyncio.create_task(collect(pipeline, ClipSource(clip(3)), every=0))
        while not script.begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Pipeline(bundle, opener=script) as pipeline:
        start = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - start < 5
        while threading.active_count() > 1 and time.monotonic() - start < 5:
            time.sleep(0.01)
        assert not [each for each in threading.enumerate() if "vpt-edge-watch" in each.name]
    assert len(script.sessions["decoder"].calls) < 100


def test_bad_options_are_told_before_the_first_answer(bundle: Bundle, tmp_path: Path) -> None:
    with open_pipeline(bundle) as pipeline, pytest.raises(VptError, match="every is -1"):
        awatch(pipeline, ClipSource(clip(1)), "Open?", every=-1)
