"""A camera's server dies again and again: each time its frames come back, and nothing is left.

make outages        20 times; make test has 3
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rtsp
from feeds import wait_for

from vpt_edge import live
from vpt_edge.live.reader import JITTER, LONGEST_DELAY

if TYPE_CHECKING:
    from vpt_edge.live.source import Source

COUNT = int(os.environ.get("OUTAGES", "3"))
USER = "qzquser"
PASSWORD = "zqzw@rd/x"
LOGIN = "qzquser:zqzw%40rd%2Fx"
SECRETS = ("qzq", "zqz")
STALL = 1.0
OPENING = 5.0  # seconds to connect, and for the first key frame, on a busy machine

MISSING = rtsp.find_missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


class Diary:
    """All that a source says of itself."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.texts = list[str]()
        source.listen(self.note)

    def note(self) -> None:
        source = self._source
        self.texts.append(f"{source.state} {source.problem!r} {source.counts} {source.name}")


def break_down(server: rtsp.RtspServer, source: Source, randomness: random.Random) -> None:
    """One outage, of a random kind and length; it ends when a frame has come again."""
    time.sleep(randomness.uniform(0, 0.5))
    before = source.counts
    kind = randomness.choice(["killed", "frozen"])
    if kind == "killed":
        server.kill()
    else:
        server.freeze()
    wait_for(source, lambda: source.counts.losses > before.losses)
    time.sleep(randomness.uniform(0, 1.5))
    if kind == "killed":
        server.start()
    else:
        server.thaw()
    begin = time.monotonic()
    opens = source.counts.opens
    wait_for(source, lambda: source.counts.opens > opens)
    assert time.monotonic() - begin < LONGEST_DELAY * (1 + JITTER) + OPENING, kind


def test_every_outage_ends_in_frames_again(capfd: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    randomness = random.Random(seed)
    before = threads()
    open_files = descriptors()
    with rtsp.RtspServer("--login", f"{USER}:{PASSWORD}") as server:
        source = live.open(f"rtsp://{LOGIN}@127.0.0.1:{server.port}/stream", stall=STALL)
        diary = Diary(source)
        with source:
            wait_for(source, lambda: source.state == "live")
            of_a_live_one = descriptors()
            for _ in range(COUNT):
                break_down(server, source, randomness)
                diary.texts.extend(threads())
            wait_for(source, lambda: source.state == "live")
            assert descriptors() <= of_a_live_one, f"seed {seed}"
            assert source.counts.losses >= COUNT
            frame = source.poll()
            diary.texts.append(repr(frame))
    assert threads() == before
    assert descriptors() == open_files
    printed = capfd.readouterr()
    everything = " ".join([*diary.texts, printed.out, printed.err])
    assert "live None" in everything and "lost SourceError" in everything
    assert [secret for secret in SECRETS if secret in everything] == []
