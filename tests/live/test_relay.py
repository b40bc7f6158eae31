"""What a watch gives goes to every output, and what people should know is told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sources import BLACK, BrokenRaster, CameraSource, ClipSource, frame

from vpt_edge.live.frame import Frame
from vpt_edge.live.pulse import Pulse
from vpt_edge.live.relay import Relay, summarize
from vpt_edge.live.seen import Failure, Seen, StateChange
from vpt_edge.live.sinks.outputs import Outputs
from vpt_edge.live.subject import WatchCounts
from vpt_edge.live.tee import Tee
from vpt_edge.live.watch import watch
from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.testing import Script, tiny_bundle


class ListSink:
    dropped = 0

    def __init__(self, *wants: type) -> None:
        self.wants = wants
        self.items = list[Any]()

    def put(self, item: Any) -> None:
        self.items.append(item)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


def run(bundle: Bundle, source: Any, sink: ListSink, count: int | None = None) -> list[str]:
    """Watch ``source`` to its end; what was told."""
    told = list[str]()
    pulse = Pulse()
    outputs = Outputs([("list", sink)])
    relay = Relay([source], outputs, pulse, told.append)
    script = Script(*(str(number) for number in range(20)))
    with Pipeline(bundle, opener=script) as pipeline:
        answers = watch(pipeline, relay.sources, "Open?", every=0)
        relay.follow(answers, count)
        relay.close()
    assert outputs.losses == {}
    assert source.closed
    return [*told, summarize(answers.counts, outputs.losses)]


def varied(count: int) -> list[Frame]:
    frames = []
    for number in range(count):
        frames.append(frame(number, np.full_like(BLACK, 9 * number)))
    return frames


def test_everything_is_handed_on_in_order(bundle: Bundle) -> None:
    sink = ListSink(Seen, Failure, StateChange, Frame)
    frames = varied(3)
    frames[1] = frame(1, raster=BrokenRaster())
    told = run(bundle, ClipSource(frames), sink)
    kinds = [type(item).__name__ for item in sink.items]
    assert kinds == [
        "StateChange",
        "Frame",
        "Seen",
        "Frame",
        "Failure",
        "Frame",
        "Seen",
        "StateChange",
    ]
    assert told == [
        "test: frame 1 was not asked about: the picture is broken",
        "3 frames, 3 asked about; dropped: 0 busy, 0 every, 0 gate; 1 failed; 0 reconnects",
    ]


def test_frames_pass_by_where_nobody_wants_them(bundle: Bundle) -> None:
    source = ClipSource(varied(1))
    with Outputs([("list", ListSink(Seen))]) as outputs:
        assert Relay([source], outputs, Pulse(), print).sources == [source]
    with Outputs([("list", ListSink(Frame))]) as outputs:
        (wrapped,) = Relay([source], outputs, Pulse(), print).sources
    assert isinstance(wrapped, Tee)


def test_a_count_ends_it(bundle: Bundle) -> None:
    sink = ListSink(Seen)
    told = run(bundle, ClipSource(varied(9)), sink, count=2)
    assert len(sink.items) == 2
    assert told == [
        "2 frames, 2 asked about; dropped: 0 busy, 0 every, 0 gate; 0 failed; 0 reconnects"
    ]


@pytest.mark.parametrize("interrupted", [False, True])
def test_only_who_is_interrupted_leaves_in_a_hurry(
    interrupted: bool, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a clip its slow sinks get all that waits for them."""
    monkeypatch.setattr("vpt_edge.live.relay.FLUSH", 0.05)
    sink = ListSink(Seen)

    def put(item: Any) -> None:
        time.sleep(0.03)
        sink.items.append(item)

    monkeypatch.setattr(sink, "put", put)
    outputs = Outputs([("slow", sink)])
    relay = Relay([ClipSource(varied(12))], outputs, Pulse(), print)
    script = Script(*(str(number) for number in range(12)))
    with Pipeline(bundle, opener=script) as pipeline:
        answers = watch(pipeline, relay.sources, "Open?", every=0)
        if interrupted:
            for event in answers.events():
                outputs.put(event)
        else:
            relay.follow(answers)
        relay.close()
    assert len(sink.items) + outputs.losses.get("slow", 0) == 12
    assert ("slow" in outputs.losses) == interrupted


def test_of_a_row_of_failures_the_first_is_told(bundle: Bundle) -> None:
    frames = varied(6)
    for number in (0, 1, 3, 4, 5):
        frames[number] = frame(number, raster=BrokenRaster())
    sink = ListSink(Failure)
    told = run(bundle, ClipSource(frames), sink)
    assert len(sink.items) == 5
    assert [line.split(" was")[0] for line in told[:-1]] == ["test: frame 0", "test: frame 3"]


def test_what_becomes_of_a_camera_is_told(bundle: Bundle, tmp_path: Path) -> None:
    camera = CameraSource()
    told = list[str]()

    def tell(line: str) -> None:
        told.append(line)
        steps = {"camera: connecting": "live", "camera: live": "lost", "camera: lost": "ended"}
        if line in steps:
            camera.enter(steps[line])  # type: ignore[arg-type]

    with Outputs([]) as outputs, Pipeline(bundle, opener=Script()) as pipeline:
        relay = Relay([camera], outputs, Pulse(), tell)
        relay.follow(watch(pipeline, relay.sources, "Open?"))
    assert told == ["camera: connecting", "camera: live", "camera: lost", "camera: ended"]


def test_the_last_line_adds_all_sources_and_names_what_sinks_lost() -> None:
    counts = [WatchCounts("a", 9, 2, 1, 3, 3, 1, 4), WatchCounts("b", 5, 1, 0, 2, 2, 0, 1)]
    assert summarize(counts, {"jsonl": 3}) == (
        "14 frames, 3 asked about; dropped: 5 busy, 5 every, 1 gate; 1 failed; 5 reconnects"
        "; jsonl lost 3"
    )


def test_requests_are_told_where_there_were_some() -> None:
    counts = [WatchCounts("a", 9, 2, 1, 3, 3, 1, 4, 5, 2)]
    assert summarize(counts, {}).endswith("; 4 reconnects; 5 requests, 2 unanswered")


def test_what_eco_left_undecoded_is_told() -> None:
    counts = [WatchCounts("a", 9, 2, 1, 3, 3, 1, 4, undecoded=5), WatchCounts("b", 5, *[0] * 6)]
    assert summarize(counts, {}).endswith("; 4 reconnects; 5 undecoded")
