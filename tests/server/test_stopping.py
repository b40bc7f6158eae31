from __future__ import annotations

import asyncio
import threading

from vpt_edge.server.stopping import Stopping

LONG = 10.0


def test_what_was_said_before_and_after_is_called_once() -> None:
    stopping = Stopping()
    calls = list[str]()
    stopping.then(lambda: calls.append("before"))
    forget = stopping.then(lambda: calls.append("forgotten"))
    forget()
    assert not stopping.is_set() and not calls
    stopping.set()
    stopping.set()
    stopping.then(lambda: calls.append("after"))()
    assert stopping.is_set()
    assert calls == ["before", "after"]


def test_a_loop_waits_for_a_thread() -> None:
    stopping = Stopping()

    async def wait() -> list[bool]:
        early = await stopping.wait(0.01)
        threading.Timer(0.05, stopping.set).start()
        both = await asyncio.gather(stopping.wait(LONG), stopping.wait(LONG))
        return [early, *both, await stopping.wait(0)]

    assert asyncio.run(wait()) == [False, True, True, True]


def test_who_waits_no_more_is_forgotten() -> None:
    stopping = Stopping()

    async def leave() -> None:
        waiting = asyncio.ensure_future(stopping.wait(LONG))
        await asyncio.sleep(0)
        assert len(stopping._callbacks) == 1
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert waiting.cancelled() and not stopping._callbacks

    asyncio.run(leave())
    stopping.set()
