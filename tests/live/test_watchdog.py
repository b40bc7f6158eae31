"""The watchdog barks when it is not fed."""

from __future__ import annotations

import threading

from feeds import PATIENCE

from vpt_edge.live.watchdog import Watchdog


def test_it_barks_once_for_each_expectation() -> None:
    barks = threading.Semaphore(0)
    watchdog = Watchdog(lambda: barks.release(), "dog")
    for _ in range(2):
        watchdog.expect(0.01)
        assert barks.acquire(timeout=PATIENCE)
        assert not barks.acquire(timeout=0.05)
    watchdog.stop()


def test_it_rests() -> None:
    barks = threading.Event()
    watchdog = Watchdog(barks.set, "dog")
    watchdog.expect(0.05)
    watchdog.rest()
    assert not barks.wait(0.2)
    watchdog.stop()


def test_an_earlier_moment_counts() -> None:
    barks = threading.Event()
    watchdog = Watchdog(barks.set, "dog")
    watchdog.expect(10 * PATIENCE)
    watchdog.expect(0.01)
    assert barks.wait(PATIENCE)
    watchdog.stop()


def test_its_thread_ends() -> None:
    watchdog = Watchdog(lambda: None, "dog")
    watchdog.expect(10 * PATIENCE)
    watchdog.stop()
    assert not watchdog._thread.is_alive()


def test_a_bark_may_stop_it() -> None:
    watchdog = Watchdog(lambda: watchdog.stop(), "dog")
    watchdog.expect(0.01)
    watchdog._thread.join(PATIENCE)
    assert not watchdog._thread.is_alive()
