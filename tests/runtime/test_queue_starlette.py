"""Streams as a web framework drives them, where it is installed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from scripted import PICTURE, Tiny

from vpt_edge.runtime import Pipeline, Text
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

responses = pytest.importorskip("starlette.responses")

LONG = 20
WAYS = ["stream", "astream"]


class Client:
    """Takes a response; after ``patience`` bytes it has gone away."""

    def __init__(self, patience: int = 10000) -> None:
        self.received = b""
        self._patience = patience
        self._gone = asyncio.Event()

    async def take(self, response: Any) -> bytes:
        scope = {"type": "http", "asgi": {"spec_version": "2.0"}}
        await asyncio.wait_for(response(scope, self._receive, self._send), LONG)
        return self.received

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.received += message.get("body", b"")
        if len(self.received) >= self._patience:
            self._gone.set()
        await asyncio.sleep(0)


def respond(pipeline: Pipeline, way: str) -> Any:
    def pieces() -> Iterator[str]:
        for event in pipeline.stream(PICTURE, "What?"):
            if isinstance(event, Text):
                yield event.piece

    async def apieces() -> AsyncIterator[str]:
        async for event in pipeline.astream(PICTURE, "What?"):
            if isinstance(event, Text):
                yield event.piece

    return responses.StreamingResponse(pieces() if way == "stream" else apieces())


@pytest.mark.parametrize("way", WAYS)
def test_clients_at_once_are_all_answered(way: str, tiny: Tiny) -> None:
    turns = [letter * 12 for letter in "abcdef"]

    async def main() -> None:
        with Pipeline(tiny(), opener=Script(*turns)) as pipeline:
            taking = [Client().take(respond(pipeline, way)) for _ in turns]
            bodies = await asyncio.gather(*taking)
        assert sorted(body.decode() for body in bodies) == turns

    asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_goes_away_leaves_the_pipeline_free(way: str, tiny: Tiny) -> None:
    async def main() -> None:
        with Pipeline(tiny(), opener=Script("Yes, " * 20, "No.")) as pipeline:
            await Client(patience=3).take(respond(pipeline, way))
            assert await Client().take(respond(pipeline, way)) == b"No."

    asyncio.run(main())
