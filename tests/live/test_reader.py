"""A live source keeps the newest frame, and comes back when it was lost."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
from feeds import PATIENCE, ScriptedFeed, picture, wait_for

from vpt_edge.live import reader
from vpt_edge.live.feed import PermanentError, Picture
from vpt_edge.live.framing import Framing
from vpt_edge.live.reader import Patience, Reader, delays
from vpt_edge.live.source import State
from vpt_edge.runtime.errors import SourceError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(reader, "LONGEST_DELAY", 0.02)


def start(feed: ScriptedFeed, stall: float = 5.0, retries: int | None = None) -> Reader:
    return Reader(feed, Framing(feed.name), Patience(stall, retries))


def three() -> Iterator[Picture]:
    yield from (picture(level) for level in range(3))


def refuse() -> Iterator[Picture]:
    raise SourceError("nobody is there")
    yield


def forbid() -> Iterator[Picture]:
    raise PermanentError("a wrong password")
    yield


def break_down() -> Iterator[Picture]:
    raise ZeroDivisionError
    yield


def test_only_the_newest_frame_waits_and_the_others_are_counted() -> None:
    read = threading.Event()
    end = threading.Event()

    def ten() -> Iterator[Picture]:
        yield from (picture(level) for level in range(10))
        read.set()
        end.wait(PATIENCE)

    with start(ScriptedFeed(ten)) as source:
        assert read.wait(PATIENCE)
        frame = source.poll()
        assert frame is not None
        assert (frame.number, frame.pixels.max(), frame.source) == (9, 9, "scripted")
        assert source.poll() is None
        assert (source.counts.frames, source.counts.dropped, source.counts.opens) == (10, 9, 1)
        end.set()


def test_a_stream_that_ends_is_lost_and_comes_back() -> None:
    feed = ScriptedFeed(three)
    with start(feed) as source:
        wait_for(source, lambda: source.counts.opens > 3)
        assert source.counts.losses >= 3
        assert source.counts.frames >= 10
        assert feed.closes >= 3
        numbers = [frame.number for frame in iter(source.poll, None)]
        assert numbers == sorted(numbers)


def test_an_open_that_fails_is_tried_again_and_says_why() -> None:
    states = list[State]()
    with start(ScriptedFeed(refuse, refuse, three)) as source:
        source.listen(lambda: states.append(source.state))
        wait_for(source, lambda: source.problem is not None or source.counts.opens > 0)
        wait_for(source, lambda: source.counts.opens > 0)
    assert "lost" in states
    assert states[-1] == "ended"


def test_the_reason_of_an_outage_goes_with_it() -> None:
    gate = threading.Event()
    end = threading.Event()

    def later() -> Iterator[Picture]:
        gate.wait(PATIENCE)
        yield picture()
        end.wait(PATIENCE)

    with start(ScriptedFeed(refuse, later)) as source:
        wait_for(source, lambda: source.problem is not None)
        assert "nobody is there" in str(source.problem)
        gate.set()
        wait_for(source, lambda: source.state == "live")
        assert source.problem is None
        end.set()


def test_what_cannot_be_mended_ends_it_at_once() -> None:
    feed = ScriptedFeed(forbid)
    with start(feed) as source:
        wait_for(source, lambda: source.state == "ended")
        with pytest.raises(PermanentError, match="wrong password"):
            source.poll()
        assert source.poll() is None
    assert feed.opens == 1


def test_a_password_that_was_right_once_is_tried_again() -> None:
    with start(ScriptedFeed(three, forbid, three)) as source:
        wait_for(source, lambda: source.counts.opens > 2)


@pytest.mark.parametrize("retries", [0, 2])
def test_retries_bound_the_tries_in_a_row(retries: int) -> None:
    feed = ScriptedFeed(three, *[refuse] * 9)
    with start(feed, retries=retries) as source:
        wait_for(source, lambda: source.state == "ended")
        expected = "nobody is there"
        if retries == 0:
            expected = "scripted ended"
            assert source.poll() is not None
        with pytest.raises(SourceError, match=expected):
            source.poll()
    assert feed.opens == 1 + retries
    assert source.counts.losses == 1


def test_a_frame_makes_the_next_tries_the_first_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begins = list[int]()
    feed = ScriptedFeed(*[refuse, refuse, three] * 3, forbid)

    def count_tries() -> Iterator[float]:
        begins.append(feed.opens)
        return itertools.repeat(0.001)

    monkeypatch.setattr(reader, "delays", count_tries)
    with start(feed, retries=3) as source:
        wait_for(source, lambda: source.counts.opens == 3)
        assert source.counts.losses >= 2
    assert begins[:3] == [0, 3, 6]


def test_a_camera_that_never_gives_a_frame_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "FIRST_FRAME", 0.05)

    def hang() -> Iterator[Picture]:
        assert feed.interrupted.wait(PATIENCE)
        return
        yield

    feed = ScriptedFeed(hang)
    with start(feed, stall=0.01) as source:
        wait_for(source, lambda: source.state == "lost")
        assert str(source.problem) == "scripted gave no picture for 0.05 s"
        wait_for(source, lambda: feed.opens > 1)
        assert (source.counts.opens, source.counts.losses) == (0, 0)


def test_a_fault_of_ours_reaches_whoever_polls() -> None:
    with start(ScriptedFeed(break_down)) as source:
        wait_for(source, lambda: source.state == "ended")
        with pytest.raises(ZeroDivisionError):
            source.poll()


def test_a_stalled_stream_is_interrupted_and_lost() -> None:
    def freeze() -> Iterator[Picture]:
        yield picture()
        assert feed.interrupted.wait(PATIENCE)
        raise SourceError("a read that was interrupted")

    states = list[State]()
    problems = list[str]()
    feed = ScriptedFeed(freeze)
    with start(feed, stall=0.05) as source:

        def note() -> None:
            states.append(source.state)
            problems.append(str(source.problem))

        source.listen(note)
        wait_for(source, lambda: source.counts.opens > 1)
    assert states.index("stalled") < states.index("lost") < len(states)
    assert "scripted gave no picture for 0.05 s" in problems
    assert "a read that was interrupted" not in problems


def test_an_outage_forgets_the_frame_of_before() -> None:
    with start(ScriptedFeed(three, refuse)) as source:
        wait_for(source, lambda: source.state == "lost" and source.counts.losses == 1)
        assert source.poll() is None
        assert source.counts.dropped == 3


def test_a_reader_that_is_stuck_is_left_behind() -> None:
    """It cannot be interrupted; what it gives later is nobody's."""
    release = threading.Event()

    def hang() -> Iterator[Picture]:
        release.wait(PATIENCE)
        yield picture()

    feed = ScriptedFeed(hang)
    source = start(feed)
    wait_for(source, lambda: feed.opens == 1)
    source.close()
    assert source.state == "ended"
    assert source._thread.daemon and source._thread.is_alive()
    release.set()
    source._thread.join(PATIENCE)
    assert not source._thread.is_alive()
    assert (source.poll(), source.counts.frames, feed.closes) == (None, 0, 1)


def test_it_is_opened_and_closed_by_its_own_thread() -> None:
    feed = ScriptedFeed(three)
    source = start(feed)
    wait_for(source, lambda: source.counts.opens > 2)
    threads = [threading.Thread(target=source.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(feed.threads) == 1
    assert threading.get_ident() not in feed.threads
    assert feed.opens == feed.closes
    assert not source._thread.is_alive()
    assert not source._watchdog._thread.is_alive()


def test_a_listener_may_close_it() -> None:
    feed = ScriptedFeed(three)
    source = start(feed)

    def close_at_once() -> None:
        if source.counts.frames:
            source.close()

    source.listen(close_at_once)
    source._thread.join(PATIENCE)
    assert source.state == "ended"
    assert source.poll() is None


def test_the_delays_double_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    steps = list(itertools.islice(delays(), 7))
    for step, least in zip(steps, (0.5, 1, 2, 4, 8, 8, 8), strict=True):
        assert least <= step <= 1.25 * least
