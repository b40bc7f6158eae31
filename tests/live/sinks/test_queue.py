"""A slow sink costs its own items, and never the camera's time."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from answers import seen
from sources import frame

from vpt_edge.live.frame import Frame
from vpt_edge.live.seen import Seen, StateChange
from vpt_edge.live.sinks.queue import SinkQueue
from vpt_edge.runtime.errors import SinkError


class HeldSink:
    """Takes nothing before it is let go; fails where it is told to."""

    wants: tuple[type, ...] = (Seen, Frame)
    dropped = 0

    def __init__(self) -> None:
        self.free = threading.Event()
        self.busy = threading.Event()
        self.items = list[Any]()
        self.errors = list[BaseException | None]()
        self.closed = False

    def put(self, item: Any) -> None:
        self.busy.set()
        self.free.wait()
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error
        self.items.append(item)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sink() -> HeldSink:
    return HeldSink()


def open_full(sink: HeldSink, size: int) -> tuple[SinkQueue, list[Any]]:
    """A queue that is full, and its items; one more is with the sink."""
    items = [seen(number) for number in range(size + 1)]
    queue = SinkQueue("sink", sink, size)
    queue.put(items[0])
    sink.busy.wait()
    for item in items[1:]:
        queue.put(item)
    return queue, items


def test_items_come_in_order_and_the_end_is_flushed(sink: HeldSink) -> None:
    queue, items = open_full(sink, 20)
    sink.free.set()
    queue.close()
    assert sink.items == items
    assert sink.closed
    assert (queue.dropped, queue.failed) == (0, 0)


def test_what_is_not_wanted_takes_no_room(sink: HeldSink) -> None:
    queue = SinkQueue("sink", sink, 1)
    for _ in range(5):
        queue.put(StateChange("camera", "live", 0.0))
    sink.free.set()
    queue.close()
    assert sink.items == []
    assert queue.dropped == 0


def test_without_room_the_oldest_answer_is_dropped(sink: HeldSink) -> None:
    queue, items = open_full(sink, 3)
    newest = seen(9)
    queue.put(newest)
    sink.free.set()
    queue.close()
    assert sink.items == [items[0], *items[2:], newest]
    assert queue.dropped == 1


def test_without_room_a_frame_is_dropped_before_any_answer(sink: HeldSink) -> None:
    queue, items = open_full(sink, 3)
    for number in range(7):
        queue.put(frame(number))
    sink.free.set()
    queue.close()
    assert sink.items == items
    assert queue.dropped == 7


def test_a_file_can_wait(sink: HeldSink) -> None:
    queue, items = open_full(sink, 2)
    threading.Timer(0.05, sink.free.set).start()
    more = [frame(number) for number in range(10)]
    for item in more:
        queue.put(item, wait=True)
    queue.close()
    assert sink.items == [*items, *more]
    assert queue.dropped == 0


def test_what_waits_is_let_go_at_the_end(sink: HeldSink) -> None:
    queue, _ = open_full(sink, 1)
    sink.errors = [BrokenPipeError()]
    threading.Timer(0.05, sink.free.set).start()
    with pytest.raises(BrokenPipeError):
        queue.put(frame(1), wait=True)


def test_the_end_has_a_bound(sink: HeldSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that is slow loses what is left, but ends as it should."""
    monkeypatch.setattr(sink, "put", lambda item: time.sleep(0.05))
    queue = SinkQueue("sink", sink)
    for number in range(100):
        queue.put(seen(number))
    queue.close(0.2)
    assert sink.closed
    assert 90 < queue.dropped < 100


def test_a_sink_that_hangs_is_left_behind(
    sink: HeldSink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vpt_edge.live.sinks.queue.END", 0.05)
    queue, _ = open_full(sink, 1)
    queue.close(0.05)
    assert not sink.closed
    assert "sink: did not come to its end in time" in capsys.readouterr().err
    sink.free.set()


def test_a_failure_costs_its_item_alone_and_is_told_once(
    sink: HeldSink, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, items = open_full(sink, 5)
    full = OSError(28, "No space left on device")
    sink.errors = [None, full, SinkError("no broker"), None, full]
    sink.free.set()
    queue.close()
    assert sink.items == [items[0], items[3], items[5]]
    assert queue.failed == 3
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "sink: [Errno 28] No space left on device",
        "sink: goes on, 2 were not delivered",
        "sink: [Errno 28] No space left on device",
        "sink: goes on, 1 were not delivered",
    ]


def test_what_a_sink_drops_by_itself_counts_too(sink: HeldSink) -> None:
    queue, _ = open_full(sink, 3)
    queue.put(seen())
    sink.errors = [SinkError("no broker")]
    sink.dropped = 5
    sink.free.set()
    queue.close()
    assert (queue.dropped, queue.failed, queue.lost) == (1, 1, 7)


def test_a_pipe_that_nobody_reads_is_the_end(sink: HeldSink) -> None:
    queue, _ = open_full(sink, 5)
    sink.errors = [BrokenPipeError()]
    sink.free.set()
    queue._thread.join(5)
    with pytest.raises(BrokenPipeError):
        queue.put(seen())
    queue.close()
    assert queue.dropped == 5
