"""What waits for its reader gives every frame, and can be closed from anywhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from feeds import PATIENCE, Script, ScriptedFeed, picture

from vpt_edge.live.framing import Framing
from vpt_edge.live.playback import Playback
from vpt_edge.live.source import each_frame
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from vpt_edge.live.feed import Picture


def play(script: Script) -> tuple[Playback, ScriptedFeed]:
    feed = ScriptedFeed(script)
    return Playback(feed, Framing(feed.name)), feed


def three() -> Iterator[Picture]:
    yield from (picture(level) for level in range(3))


def cut_off() -> Iterator[Picture]:
    yield from three()
    raise SourceError("the rest is missing")


def test_every_frame_comes_and_then_the_end() -> None:
    source, feed = play(three)
    assert [frame.number for frame in each_frame(source)] == [0, 1, 2]
    assert source.state == "ended"
    assert (source.poll(), feed.opens, feed.closes) == (None, 1, 1)
    assert (source.counts.frames, source.counts.dropped, source.counts.opens) == (3, 0, 1)


def test_the_first_picture_may_be_read_ahead() -> None:
    source, _ = play(three)
    assert source.prepare().state == "live"
    assert [frame.number for frame in each_frame(source)] == [0, 1, 2]


def test_an_error_comes_once_behind_the_good_frames() -> None:
    source, feed = play(cut_off)
    for number in range(3):
        frame = source.poll()
        assert frame is not None and frame.number == number
    with pytest.raises(SourceError, match="the rest is missing"):
        source.poll()
    assert (source.state, source.poll(), feed.closes) == ("ended", None, 1)
    assert "the rest is missing" in str(source.problem)


def test_closing_ends_it_and_says_so() -> None:
    source, feed = play(three)
    source.poll()
    calls = list[str]()
    source.listen(lambda: calls.append(source.state))
    source.close()
    source.close()
    assert calls[0] == "live" and calls[1] == "ended"
    assert (source.poll(), feed.closes) == (None, 1)


def test_it_is_never_closed_while_another_thread_reads() -> None:
    reading = threading.Event()

    def wait() -> Iterator[Picture]:
        reading.set()
        feed.interrupted.wait(PATIENCE)
        yield picture()

    source, feed = play(wait)
    polled = list[object]()
    thread = threading.Thread(target=lambda: polled.append(source.poll()))
    thread.start()
    assert reading.wait(PATIENCE)
    source.close()
    assert source.state == "ended"
    thread.join(PATIENCE)
    assert (polled, feed.closes) == ([None], 1)
    assert feed.threads == {thread.ident}
