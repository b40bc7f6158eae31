"""What waits for a client that is slow."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
from functools import partial
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from scripted import REGION

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.testing import Script
from vpt_edge.server.plain_answer import PlainAnswer, encode
from vpt_edge.server.service import Service
from vpt_edge.server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from vpt_edge.runtime import Bundle
    from vpt_edge.server.plain_answer import PlainEvent

SIZE = (331, 227)  # of no other picture


def file_of(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, "PNG")
    return stream.getvalue()


def count_pictures() -> int:
    """How many are in memory, but for crops and what is shown of pictures."""
    gc.collect()
    images = [each for each in gc.get_objects() if issubclass(type(each), Image.Image)]
    return sum(vars(each).get("_size") == SIZE for each in images)  # no property of a stand-in's


async def ask(service: Service, store: bool) -> AsyncGenerator[PlainEvent, None]:
    picture = await service.open_pictures([file_of(SIZE)])
    return service.ask("a", picture, "What?", {"perception": "free"}, store)


def serve(bundle: Bundle) -> Service:
    script = Script(f"I look: {REGION}", "A dog.")
    settings = Settings("tiny", cache_bytes=0)  # which would keep the picture itself
    return Service(partial(Pipeline, bundle, opener=script), settings)


@pytest.mark.parametrize("store", [False, True])
def test_what_waits_for_a_slow_client_holds_no_picture(bundle: Bundle, store: bool) -> None:
    service = serve(bundle)

    async def main() -> None:
        async with contextlib.aclosing(await ask(service, store)) as events:
            await anext(events)
            while service.worker.running:
                await asyncio.sleep(0.01)
            assert count_pictures() == 0
            rest = [event async for event in events]
        assert isinstance(rest[-1], PlainAnswer)
        assert rest[-1].sizes == (SIZE,)
        assert (rest[-1].picture is not None) == store
        (look,) = rest[-1].looks
        assert look.crop is None

    with contextlib.closing(service):
        service.load()
        asyncio.run(main())


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_pictures_of_each_mode_are_encoded(mode: str) -> None:
    picture = Image.new(mode, (9, 7))
    assert Image.open(io.BytesIO(encode(picture))).size == (9, 7)
