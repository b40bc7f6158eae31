from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tasks import run

from vpt_edge.server.connection import ClientGoneError, run_while_connected

if TYPE_CHECKING:
    from starlette.types import Message


class Work:
    """Waits until it is ``done``, and takes its time to end."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.cancelled = 0

    async def __call__(self) -> str:
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await asyncio.sleep(0.01)
            raise
        return "result"


class Connection:
    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def receive(self) -> Message:
        await self.closed.wait()
        return {"type": "http.disconnect"}


def test_its_result_is_given() -> None:
    async def main() -> None:
        work = Work()
        work.done.set()
        assert await run_while_connected(Connection().receive, work()) == "result"

    run(main())


def test_its_error_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("wrong")

    async def main() -> None:
        with pytest.raises(ValueError, match="wrong"):
            await run_while_connected(Connection().receive, fail())

    run(main())


def test_it_has_ended_when_the_client_is_gone() -> None:
    async def main() -> None:
        work = Work()
        connection = Connection()
        running = asyncio.create_task(run_while_connected(connection.receive, work()))
        await asyncio.sleep(0)
        connection.closed.set()
        with pytest.raises(ClientGoneError):
            await running
        assert work.cancelled == 1

    run(main())


def test_a_connection_that_fails_is_one_that_is_gone() -> None:
    async def main() -> None:
        async def receive() -> Message:
            raise OSError("broken")

        work = Work()
        with pytest.raises(ClientGoneError):
            await run_while_connected(receive, work())
        assert work.cancelled == 1

    run(main())


def test_it_is_cancelled_with_whoever_waits() -> None:
    async def main() -> None:
        work = Work()
        running = asyncio.create_task(run_while_connected(Connection().receive, work()))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert work.cancelled == 1

    run(main())


def test_the_next_piece_of_a_generator_is_work_too() -> None:
    async def main() -> None:
        closed = False

        async def pieces() -> Any:
            nonlocal closed
            try:
                await asyncio.Event().wait()
                yield
            finally:
                closed = True

        connection = Connection()
        running = asyncio.create_task(run_while_connected(connection.receive, anext(pieces())))
        await asyncio.sleep(0.01)
        connection.closed.set()
        with pytest.raises(ClientGoneError):
            await running
        assert closed

    run(main())
