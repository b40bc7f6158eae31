from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pytest
from sources import BrokenRaster, CameraSource, frame

from vpt_edge.runtime.errors import SourceError
from vpt_edge.server import live_source
from vpt_edge.server.errors import RequestError
from vpt_edge.server.live_source import KEPT, LiveSource

Result = TypeVar("Result")
LONG = 20.0


def run(work: Callable[[CameraSource, LiveSource], Awaitable[Result]]) -> Result:
    """``work`` with a camera that a test shows its frames."""

    async def play() -> Result:
        camera = CameraSource()
        with ThreadPoolExecutor(2) as pool:
            source = LiveSource("door", camera, pool)
            source.start()
            try:
                return await work(camera, source)
            finally:
                source.close()

    return asyncio.run(play())


def show_later(camera: CameraSource, number: int) -> None:
    """From another thread, as a reader does."""

    def show() -> None:
        camera.show(dataclasses.replace(frame(number), monotonic=time.monotonic()))

    threading.Timer(0.05, show).start()


async def settle() -> None:
    """Until what was handed to the loop is done."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_question_waits_for_a_frame_that_was_captured_since() -> None:
    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.enter("live")
        camera.show(frame(3))
        await settle()
        show_later(camera, 4)
        shot = await source.shoot(time.monotonic())
        assert shot.still.frame.number == 4
        assert source.counts.asked == source.counts.requests == 1
        assert (source.counts.every, source.counts.busy) == (1, 0)

    run(work)


def test_of_a_slow_source_it_gets_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_source, "PATIENCE", 0.05)

    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.enter("live")
        camera.show(dataclasses.replace(frame(3), monotonic=time.monotonic() - 7))
        await settle()
        shot = await source.shoot(time.monotonic())
        assert shot.still.frame.number == 3
        assert shot.age_at_start > 7
        assert shot.conclude()["age_at_end"] >= shot.to_dict()["age_at_start"]

    run(work)


@pytest.mark.parametrize("state", ["connecting", "stalled", "lost", "ended"])
def test_of_a_source_that_is_away_it_gets_nothing_of_before(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_source, "PATIENCE", 0.05)

    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.enter("live")
        camera.show(frame(3))
        camera.enter(state, SourceError("the cable is out"))  # type: ignore[arg-type]
        await settle()
        with pytest.raises(RequestError, match=f"door is {state}: the cable is out") as caught:
            await source.shoot(time.monotonic())
        assert (caught.value.status, caught.value.code) == (503, "source_unavailable")
        assert source.counts.unanswered == 1
        assert source.newest is not None  # who looks sees it, with its age

    run(work)


def test_a_source_that_comes_back_in_time_answers() -> None:
    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.enter("lost")
        show_later(camera, 9)
        shot = await source.shoot(time.monotonic())
        assert shot.still.frame.number == 9

    run(work)


def test_what_was_asked_about_is_kept_for_a_while() -> None:
    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.enter("live")
        for number in range(KEPT + 2):
            camera.show(frame(number))
            await settle()
            await source.shoot(0.0)
        camera.show(frame(99))
        await settle()
        kept = [number for number in range(100) if source.find(number) is not None]
        assert kept == [*range(2, KEPT + 2), 99]

    run(work)


def test_what_was_encoded_is_shared_and_goes_with_the_next_frame() -> None:
    encoded = list[object]()

    def encode(pixels: object) -> object:
        encoded.append(pixels)
        return object()

    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.enter("live")
        camera.show(frame(0))
        await settle()
        shots = [await source.shoot(0.0) for _ in range(3)]
        pictures = await asyncio.gather(*[shot.still.picture(encode) for shot in shots])  # type: ignore[arg-type]
        assert len(encoded) == 1
        assert len(set(map(id, pictures))) == 1
        camera.show(frame(1))
        await settle()
        await source.shoot(0.0)
        assert shots[0].still._picture is None
        assert source.counts.asked == 2

    run(work)


def test_one_who_leaves_takes_the_picture_from_nobody() -> None:
    waiting = threading.Event()

    def encode(pixels: object) -> object:
        assert waiting.wait(LONG)
        return "encoded"

    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.show(frame(0))
        await settle()
        still = source.newest
        assert still is not None
        first = asyncio.ensure_future(still.picture(encode))  # type: ignore[arg-type]
        second = asyncio.ensure_future(still.picture(encode))  # type: ignore[arg-type]
        await settle()
        first.cancel()
        await settle()
        waiting.set()
        assert await second == "encoded"  # type: ignore[comparison-overlap]

    run(work)


def test_a_viewer_is_spared_a_broken_frame() -> None:
    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.show(frame(0, raster=BrokenRaster()))
        await settle()
        show_later(camera, 1)
        view = await source.next_view(None, LONG)
        assert view is not None and view.frame.number == 1

    run(work)


def test_a_viewer_gets_the_newest_alone() -> None:
    async def work(camera: CameraSource, source: LiveSource) -> None:
        for number in range(5):
            camera.show(frame(number, np.full((4, 6, 3), number, np.uint8)))
        await settle()
        view = await source.next_view(2, LONG)
        assert view is not None
        assert (view.frame.number, view.size) == (4, (6, 4))
        assert await source.next_view(4, 0.01) is None

    run(work)


def test_nobody_waits_when_it_stops() -> None:
    async def work(camera: CameraSource, source: LiveSource) -> None:
        camera.enter("live")
        waiting = asyncio.ensure_future(source.next_view(None, LONG))
        asking = asyncio.ensure_future(source.shoot(time.monotonic()))
        await settle()
        threading.Thread(target=source.stop).start()
        assert await waiting is None
        with pytest.raises(RequestError, match="the server ends"):
            await asking

    run(work)


def test_what_becomes_of_it_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    async def work(camera: CameraSource, source: LiveSource) -> None:
        for _ in range(2):
            camera.enter("live")
            camera.show(frame(0))
            await settle()
        for _ in range(2):
            camera.enter("lost", SourceError("the cable is out"))
            await settle()
            camera.enter("connecting", SourceError("the cable is out"))
            await settle()

    run(work)
    assert capfd.readouterr().err == "door is lost: the cable is out\n"


def test_who_leaves_as_a_frame_comes_has_left() -> None:
    """asyncio.wait_for of Python 3.11 loses such a cancellation."""

    async def work(camera: CameraSource, source: LiveSource) -> None:
        waiting = asyncio.ensure_future(source.shoot(time.monotonic() + LONG))
        await settle()
        camera.show(frame(0))
        source._take()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(work)
