"""Work for a client, as long as it is there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Receive

Result = TypeVar("Result")


class ClientGoneError(Exception):
    """The client has closed the connection."""


async def run_while_connected(receive: Receive, work: Awaitable[Result]) -> Result:
    """The result of ``work``, which is cancelled when the client goes away: then ClientGoneError.

    The request's body must have been read. Whatever happens, nothing goes on behind it.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_until_gone(receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _wait_until_gone(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
